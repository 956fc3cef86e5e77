"""Values that look harmless and name a patient: numbers in pieces, short names, local codes, placeholders as IDs."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import write_copy
from dicom_node.export.errors import NotExportableError
from dicom_node.export.profile import Profile, SafePrivateElement, read_profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.residue import find_residue, own_values
from inference.series.instances import without_pydicom_warnings
from tests.export.plants import encoded, hosts

NAMES = Pseudonyms("project", bytes(range(32)))


def source(**attributes: Any) -> Dataset:
    ds = hosts()["ct"]
    for keyword, value in ({"PatientID": "MRN-48151623", "PatientName": "Zyxwvut^Qrstu"} | attributes).items():
        setattr(ds, keyword, value)
    return ds


def copied(
    ds: Dataset, folder: Path, profile: Profile | None = None, edit: Callable[[bytes], bytes] = lambda content: content
) -> tuple[Dataset, bytes]:
    cleaner = Cleaner(profile or read_profile(None), NAMES)
    path = folder / write_copy(BytesIO(edit(encoded(ds))), folder, cleaner).relative_path
    return dcmread(path), path.read_bytes()


@pytest.mark.parametrize("value", ["4801 1623 99", "1937 04 11", "1937_0411", "K4B8D1", "BO LI NG", "SOM 12345"])
def test_a_code_string_that_may_be_a_number_or_a_name_in_pieces_is_dropped(value: str, tmp_path: Path) -> None:
    copy, content = copied(source(ScanOptions=value), tmp_path)
    assert not copy.get("ScanOptions")
    assert value.encode() not in content


@pytest.mark.parametrize(("name", "value"), [("Ng^Li", "NG LI"), ("Long^Black", "BLACK LONG")])
def test_a_code_string_made_of_the_patients_name_is_dropped_however_short_or_common(
    name: str, value: str, tmp_path: Path
) -> None:
    copy, _ = copied(source(PatientName=name, ScanOptions=value), tmp_path / "own")
    assert not copy.get("ScanOptions")
    other, _ = copied(source(ScanOptions=value), tmp_path / "other")
    assert other.ScanOptions == value


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ScanOptions", ["FS", "SAT1", "PFP"]),
        ("LossyImageCompressionMethod", "ISO_10918_1"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M_FFE", "CT_SOM5 SPI", "FLUID_ATTENUATED"]),
    ],
)
def test_terms_of_the_standard_and_of_vendors_stay(keyword: str, value: object, tmp_path: Path) -> None:
    copy, _ = copied(source(**{keyword: value}), tmp_path)
    assert copy[keyword].value == value


@pytest.mark.parametrize("character_set", ["GB18030", "GBK", "ISO_IR 192", ["", "ISO 2022 IR 87"]])
def test_the_character_set_stays_and_names_in_it_go(character_set: str | list[str], tmp_path: Path) -> None:
    ds = source()
    ds.SpecificCharacterSet, ds.PatientName = character_set, "山田^太郎"
    copy, _ = copied(ds, tmp_path)
    assert copy.SpecificCharacterSet == character_set
    assert copy.PatientName == copy.PatientID


@pytest.mark.parametrize("character_set", ["ISO-IR 100", "utf-8"])
def test_a_character_set_that_is_none_of_the_standards_is_left_out(character_set: str, tmp_path: Path) -> None:
    def misspell(content: bytes) -> bytes:
        assert content.count(b"ISO_IR 100") == 1
        return content.replace(b"ISO_IR 100", character_set.ljust(10).encode())

    with without_pydicom_warnings():  # as the commands do
        copy, _ = copied(source(SpecificCharacterSet="ISO_IR 100"), tmp_path, edit=misspell)
    assert "SpecificCharacterSet" not in copy


@pytest.mark.parametrize(
    ("patient_id", "written"),
    [("MRN-48151623", "48151623"), ("4815-1623", "48151623"), ("MRN 481516", "481516")],
)
def test_a_record_number_without_its_prefix_or_separators_is_found(
    patient_id: str, written: str, tmp_path: Path
) -> None:
    with pytest.raises(NotExportableError, match=r"of the source in \(0020,0012\)"):
        copied(source(PatientID=patient_id, AcquisitionNumber=written), tmp_path)


def test_a_birth_date_is_found_outside_of_dates_and_a_moved_date_may_be_the_same(tmp_path: Path) -> None:
    with pytest.raises(NotExportableError, match=r"of the source in \(0020,0012\)"):
        copied(source(PatientBirthDate="19370411", AcquisitionNumber="19370411"), tmp_path)
    ds = source(StudyDate="20240110")
    moved = copied(ds, tmp_path / "first")[0].StudyDate
    ds.PatientBirthDate = moved
    assert copied(ds, tmp_path / "second")[0].StudyDate == moved


def test_digits_after_a_decimal_point_are_a_measurement_and_no_record_number(tmp_path: Path) -> None:
    ds = source(PatientID="480123", SliceThickness="1.480123", ImagePositionPatient=["-12.480123", "0", "0"])
    copy, _ = copied(ds, tmp_path)
    assert copy.ImagePositionPatient == ds.ImagePositionPatient
    ds.SliceThickness = "480123"
    with pytest.raises(NotExportableError, match=r"of the source in \(0018,0050\)"):
        copied(ds, tmp_path / "whole")


def test_codes_of_a_hospital_are_replaced_the_same_way_throughout_a_project(tmp_path: Path) -> None:
    def coded(value: str, scheme: str) -> Dataset:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "Dr Miller"
        return item

    ds = source()
    ds.ProcedureCodeSequence = [coded("DRMILLER", "99UKESSEN"), coded("DRMILLER", "99UKESSEN"), coded("7", "L")]
    ds.AnatomicRegionSequence = [coded("69536005", "SCT"), coded("MILLER", "I10"), coded("ANON-AREA", "99DICOMNODE")]
    copy, content = copied(ds, tmp_path)
    first, second, third = copy.ProcedureCodeSequence
    assert first.CodeValue == second.CodeValue != third.CodeValue
    assert {one.CodingSchemeDesignator for one in copy.ProcedureCodeSequence} == {"99LOCAL"}
    public = [(one.CodeValue, one.CodingSchemeDesignator) for one in copy.AnatomicRegionSequence]
    assert public == [("69536005", "SCT"), ("REMOVED", "I10"), ("ANON-AREA", "99DICOMNODE")]
    assert not any(word in content.upper() for word in (b"MILLER", b"ESSEN"))


@pytest.mark.parametrize(
    "patient_id",
    ["000-00-0000", "99999999", "xxx-xx-xxxx", "REMOVED", "Not Available", "N.N.", "unbekannt", "DUMMY", "0 0", "- -"],
)
def test_an_id_that_is_a_placeholder_gives_no_pseudonym(patient_id: str, tmp_path: Path) -> None:
    with pytest.raises(NotExportableError, match="would join different people"):
        copied(source(PatientID=patient_id), tmp_path)


@pytest.mark.parametrize("patient_id", ["7", "11", "ANON1", "TEST123", "1000"])
def test_a_short_id_is_an_id(patient_id: str, tmp_path: Path) -> None:
    assert copied(source(PatientID=patient_id), tmp_path)[0].PatientID == NAMES.patient(patient_id, "")


@pytest.mark.parametrize("padded", ["MRN-48151623\0\0\0\0", " MRN-48151623 ", "MRN-48151623"])
def test_padding_makes_no_second_person(padded: str, tmp_path: Path) -> None:
    assert copied(source(PatientID=padded), tmp_path)[0].PatientID == NAMES.patient("MRN-48151623", "")


def test_a_private_element_that_the_profile_keeps_stays_alone_and_a_sequence_never(tmp_path: Path) -> None:
    safe = (
        SafePrivateElement(creator="SIEMENS MR HEADER", group=0x19, element=0x0C),
        SafePrivateElement(creator="SIEMENS MR HEADER", group=0x19, element=0x0D),
    )
    profile = read_profile(None).model_copy(update={"safe_private": safe})
    ds = source()
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    inner = Dataset()
    inner.PatientComments = "Somebody"
    block.add_new(0x0D, "SQ", [inner])
    block.add_new(0x0E, "LO", "Somebody")
    ds.private_block(0x0021, "SIEMENS MR HEADER", create=True).add_new(0x0C, "LO", "Somebody")
    copy, content = copied(ds, tmp_path, profile)
    assert [(int(tag), copy[tag].value) for tag in copy.keys() if tag.is_private] == [  # noqa: SIM118
        (0x00190010, "SIEMENS MR HEADER"),
        (0x0019100C, 1000),
    ]
    assert b"Somebody" not in content
    block.add_new(0x0C, "LO", "of Zyxwvut")
    with pytest.raises(NotExportableError, match="of the source in its bytes"):
        copied(ds, tmp_path / "named", profile)


def test_a_sequence_that_was_sent_as_unknown_is_looked_into(tmp_path: Path) -> None:
    item = Dataset()
    item.PatientName, item.ScheduledProcedureStepDescription = "Zyxwvut^Qrstu", "for Zyxwvut"
    item.Laterality = "L"
    buffer = BytesIO()
    dcmwrite(buffer, item, implicit_vr=True, little_endian=True)
    body = buffer.getvalue()
    value = b"\xfe\xff\x00\xe0" + len(body).to_bytes(4, "little") + body
    ds = source()
    for tag in (0x00400275, 0x00081140, 0x00082218):
        ds[tag] = RawDataElement(Tag(tag), "UN", len(value), value, 0, False, True)
    copy, content = copied(ds, tmp_path)
    assert copy.AnatomicRegionSequence[0].Laterality == "L"
    assert b"Zyxwvut" not in content


def test_of_an_element_that_is_there_twice_neither_stays(tmp_path: Path) -> None:
    def twice(content: bytes) -> bytes:
        place = content.find(b"\x10\x00\x10\x00PN")
        return content[:place] + b"\x10\x00\x10\x00PN\x08\x00Abcdefgh" + content[place:]

    _, content = copied(source(), tmp_path, edit=twice)
    assert not any(name in content for name in (b"Abcdefgh", b"Zyxwvut"))


@pytest.mark.parametrize("name", ["Dates", "Brain", "Unknown", "Meaning", "Confidentiality"])
def test_a_patient_who_is_named_like_a_word_of_every_copy_or_of_a_public_table_can_leave(
    name: str, tmp_path: Path
) -> None:
    """Nothing of these texts comes from the source, apart from the code, which is the same for everybody."""
    ds = source(PatientName=f"{name}^Qrstu")
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "12738006", "SCT", "Brain"
    ds.AnatomicRegionSequence = [code]
    copy, content = copied(ds, tmp_path)
    assert "modified-dates" in copy.DeidentificationMethod[2]
    assert "brain" in copy.AnatomicRegionSequence[0].CodeMeaning.lower()
    assert b"Qrstu" not in content


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("CodeMeaning", "Brain of Dates"),
        ("DeidentificationMethod", "as asked by Dates"),
        ("DeviceSerialNumber", "Dates"),
    ],
)
def test_such_a_name_is_found_in_every_other_text(
    keyword: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_rules(self: Cleaner, *arguments: Any, **named: Any) -> tuple[Dataset, Any]:
        copy, report = clean(self, *arguments, **named)
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = "12738006", "SCT"
        setattr(item, keyword, text)
        copy.AnatomicRegionSequence = [item]
        return copy, report

    clean = Cleaner.clean
    monkeypatch.setattr(Cleaner, "clean", break_rules)
    with pytest.raises(NotExportableError, match=rf"a word of a name of the source in \(.*\) {keyword}; it was disc"):
        copied(source(PatientName="Dates^Qrstu"), tmp_path)


def test_another_name_between_elements_is_found_where_one_is_in_a_harmless_place() -> None:
    copy = dcmread(BytesIO(encoded(source(DeidentificationMethod="Dates"))))
    own = own_values(source(PatientName="Dates^Zyxwvut"))
    only = Dataset()
    only[0x00120063] = copy.get_item(0x00120063)
    assert find_residue(only, [b"Dates"], own, (), [b"Dates"]) is None
    assert find_residue(only, [b"Dates", b"..Zyxwvut.."], own, (), [b"Dates"]) == (
        "a word of a name of the source in its bytes"
    )


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"AcquisitionNumber": "48151623"}, r"a number of the source in \(0020,0012\) AcquisitionNumber"),
        ({"PatientBirthDate": "19310411", "AcquisitionNumber": "19310411"}, r"a birth date of the source in \(0020,"),
    ],
)
def test_the_refusal_says_which_kind_of_value_is_in_which_attribute(
    attributes: dict[str, str], told: str, tmp_path: Path
) -> None:
    with pytest.raises(NotExportableError, match=told) as refused:
        copied(source(**attributes), tmp_path)
    assert "19310411" not in str(refused.value)
    assert "48151623" not in str(refused.value)

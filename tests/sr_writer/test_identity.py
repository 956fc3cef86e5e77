"""Whose SEG it is: the source's own bytes, in its own character set."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import Tag

from inference.series.instances import without_pydicom_warnings
from sr_writer.encoding import encode_dataset, encoded_element
from sr_writer.identity import InvalidValue, copy_identity, invalid_identity
from sr_writer.values import is_valid_value
from tests.factories import ct_series
from tests.sr_writer.writing import headers_of, masks_on, write

# Encoded by hand from the code tables; the kanji name is the standard's own example (PS3.5 H.3.1).
WANG_XIAODONG_GB18030 = "Wang^XiaoDong=王^小东".encode("gb18030")
YAMADA_ISO_2022 = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
BUC_LATIN_1 = b"Buc^J\xe9r\xf4me"


def source_header(character_set: bytes | None, **values: bytes) -> Dataset:
    header = headers_of(ct_series(3))[0]
    del header.SpecificCharacterSet
    if character_set is not None:
        header[Tag("SpecificCharacterSet")] = encoded_element(Tag("SpecificCharacterSet"), "CS", character_set)
    for keyword, value in values.items():
        vr = {"PatientName": "PN", "PatientID": "LO", "StudyDescription": "LO"}.get(keyword, "SH")
        header[Tag(keyword)] = encoded_element(Tag(keyword), vr, value)
    # Read again, so that the dataset knows its character set as one that was received does.
    received = BytesIO(encode_dataset(header))
    return read_dataset(received, is_implicit_VR=False, is_little_endian=True)


def written_from(header: Dataset) -> bytes:
    series = ct_series(3)
    headers = [header, *headers_of(series)[1:]]
    written = write(headers, series.truth.get_geometry(), *masks_on(series.voxels.shape))
    assert written is not None
    return written.part10()


@pytest.mark.parametrize("is_read_before", [False, True], ids=["raw", "decoded"])
@pytest.mark.parametrize(
    ("character_set", "name", "decoded"),
    [
        (b"GB18030", WANG_XIAODONG_GB18030, "Wang^XiaoDong=王^小东"),
        (b"\\ISO 2022 IR 87", YAMADA_ISO_2022, "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (None, BUC_LATIN_1, "Buc^Jérôme"),
        (b"ISO_IR 100", BUC_LATIN_1, "Buc^Jérôme"),
        (b"ISO_IR 192", "Łukasz^Ωmega".encode(), "Łukasz^Ωmega"),
    ],
    ids=["GB18030", "ISO 2022 IR 87", "undeclared Latin-1", "Latin-1", "UTF-8"],
)
def test_a_name_keeps_its_bytes_and_its_character_set(
    character_set: bytes | None, name: bytes, decoded: str, *, is_read_before: bool
) -> None:
    header = source_header(character_set, PatientName=name)
    if is_read_before:
        assert str(header.PatientName) == decoded
    ds = dcmread(BytesIO(written_from(header)))
    assert ds.get_item("PatientName").value.rstrip(b" ") == name
    assert (ds.get_item("SpecificCharacterSet") is None) == (character_set is None)
    assert str(ds.PatientName) == decoded
    assert ds.SegmentSequence[1].SegmentLabel == "Anonymized area"


def test_a_misspelt_character_set_stays_with_the_name_that_is_read_by_it() -> None:
    greek = "Διονυσιος".encode("iso8859_7")
    copy = Dataset()
    with without_pydicom_warnings():
        header = source_header(b"ISO-IR 126", PatientName=greek)
        copied = copy_identity(header, copy)
        encoded = BytesIO(encode_dataset(copy))
        again = read_dataset(encoded, is_implicit_VR=False, is_little_endian=True)
    assert again.get_item("SpecificCharacterSet").value == b"ISO-IR 126"
    assert again.get_item("PatientName").value.rstrip(b" ") == greek
    assert (copied.kept, copied.emptied) == ([Tag("SpecificCharacterSet")], [])


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("AccessionNumber", b"RIS-2026-0123456789-A"),  # 21 characters, SH has 16
        ("PatientID", b"P" * 80),
        ("PatientID", b"secret\xff\xfe"),  # not UTF-8
        ("StudyID", b"far too long for a study"),
        ("PatientName", b"A^B^C^D^E^F"),
        ("PatientName", b"L" * 70 + b"^Long"),
    ],
)
def test_a_name_or_identifier_keeps_its_bytes_although_it_is_not_valid(keyword: str, value: bytes) -> None:
    """An archive that took the images under it finds the result under it, and under nothing else."""
    header = source_header(b"ISO_IR 192", **{keyword: value})
    kept = dcmread(BytesIO(written_from(header))).get_item(keyword).value
    assert kept in (value, value + b" ")
    (invalid,) = invalid_identity(header)
    assert invalid.is_kept
    assert "secret" not in str(invalid)


def test_an_invalid_value_is_named_by_attribute_and_representation() -> None:
    header = source_header(b"ISO_IR 192", AccessionNumber=b"RIS-2026-0123456789-A")
    assert invalid_identity(header) == (InvalidValue("Accession Number", "SH", is_kept=True),)


def test_any_other_value_that_is_not_valid_is_emptied_or_left_out_and_named() -> None:
    header = source_header(b"ISO_IR 192", StudyDescription=b"a\x07bell")
    header[Tag("PatientBirthDate")] = encoded_element(Tag("PatientBirthDate"), "DA", b"1970-01-01")
    target = Dataset()
    copied = copy_identity(header, target)
    assert set(copied.emptied) == {Tag("StudyDescription"), Tag("PatientBirthDate")}
    assert copied.kept == []
    assert target.PatientBirthDate == ""
    assert "StudyDescription" not in target
    assert set(invalid_identity(header)) == {
        InvalidValue("Study Description", "LO", is_kept=False),
        InvalidValue("Patient's Birth Date", "DA", is_kept=False),
    }


def test_an_identifier_that_explicit_vr_cannot_hold_is_left_out_and_named() -> None:
    header = headers_of(ct_series(3))[0]
    header[Tag("PatientID")] = encoded_element(Tag("PatientID"), "LO", b"x" * 0x10000)
    target = Dataset()
    assert copy_identity(header, target).emptied == [Tag("PatientID")]
    assert target.PatientID == ""
    assert len(invalid_identity(header)) == 1


def test_a_valid_source_has_no_remark() -> None:
    assert invalid_identity(headers_of(ct_series(3))[0]) == ()


def test_required_attributes_are_there_when_the_source_has_none() -> None:
    header = headers_of(ct_series(3))[0]
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"):
        delattr(header, keyword)
    ds = dcmread(BytesIO(written_from(header)))
    assert [str(ds[k].value or "") for k in ("PatientID", "PatientName", "StudyID", "AccessionNumber")] == [""] * 4


def test_an_empty_character_set_is_left_out() -> None:
    ds = dcmread(BytesIO(written_from(source_header(b"", PatientName=BUC_LATIN_1))))
    assert "SpecificCharacterSet" not in ds
    assert ds.PatientName == "Buc^Jérôme"


def test_what_was_done_to_the_source_is_repeated_and_nothing_added() -> None:
    ds = dcmread(BytesIO(written_from(headers_of(ct_series(3))[0])))
    assert "PatientIdentityRemoved" not in ds
    assert "RecognizableVisualFeatures" not in ds
    header = headers_of(ct_series(3))[0]
    header.PatientIdentityRemoved = "NO"
    header.RecognizableVisualFeatures = "YES"
    ds = dcmread(BytesIO(written_from(header)))
    assert (ds.PatientIdentityRemoved, ds.RecognizableVisualFeatures) == ("NO", "YES")


def test_nested_identifiers_are_copied_with_their_items() -> None:
    header = source_header(b"ISO_IR 100")
    issuer = Dataset()
    issuer.UniversalEntityID = "1.2.3"
    issuer.UniversalEntityIDType = "ISO"
    other = Dataset()
    other.PatientID = "Zé 7"
    other.IssuerOfPatientIDQualifiersSequence = [issuer]
    header.OtherPatientIDsSequence = [other]
    ds = dcmread(BytesIO(written_from(header)))
    (item,) = ds.OtherPatientIDsSequence
    assert item.PatientID == "Zé 7"
    assert item.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == "1.2.3"


@pytest.mark.parametrize(
    ("vr", "value", "is_valid"),
    [
        ("DA", b"20240229", True),
        ("DA", b"20230229", False),
        ("DA", b"2024.02.29", False),
        ("TM", b"235960.123456", True),
        ("TM", b"24", False),
        ("TM", b"10:11:12", False),
        ("AS", b"042Y", True),
        ("AS", b"42Y", False),
        ("CS", b"HFS", True),
        ("CS", b"male", False),
        ("DS", b"-1.5e3", True),
        ("DS", b"12.3456789012345678", False),
        ("IS", b"12 ", True),
        ("UI", b"1.2.840\0", True),
        ("UI", b"1.02.3", False),
        ("SH", b"x" * 16 + b"  ", True),
        ("SH", b"x" * 17, False),
        ("SH", b"x" * 16 + b"\\" + b"y" * 16, True),
        ("ST", b"two\r\nlines\\one value", True),
        ("PN", b"A^B^C^D^E=A=A", True),
        ("PN", b"A^B^C^D^E^F", False),
        ("PN", b"A=B=C=D", False),
        ("LO", b"", True),
    ],
)
def test_values_are_judged_by_their_vr(vr: str, value: bytes, *, is_valid: bool) -> None:
    assert is_valid_value(vr, value, ()) == is_valid


def test_characters_are_counted_not_bytes() -> None:
    assert is_valid_value("SH", ("ü" * 16).encode(), ("ISO_IR 192",))
    assert not is_valid_value("SH", ("ü" * 17).encode(), ("ISO_IR 192",))

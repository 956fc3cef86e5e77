"""No marker survives de-identification, wherever it was planted; what must survive does (PS3.15 E.2)."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.export import cleaner as cleaner_module
from dicom_node.export import copying, rules
from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import write_copy
from dicom_node.export.profile import Profile, read_profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.rules import Do, Rule, Rules
from dicom_node.export.standard_table import Option
from tests.export.plants import Planter, encoded, hosts

KEY = bytes(range(32))
PATIENT_ID = "MRN-48151623"


def planted(name: str, seed: int = 7) -> tuple[Dataset, Planter]:
    return planted_in(hosts()[name], seed)


def planted_in(ds: Dataset, seed: int = 7) -> tuple[Dataset, Planter]:
    planter = Planter(seed)
    ds.PatientID = PATIENT_ID
    planter.everything(ds, "top")
    ds.StudyDate = "20240110"
    ds.ReferencedStudySequence = [Dataset()]
    nested = Dataset()
    planter.everything(nested, "nested")
    unlisted = Dataset()
    unlisted.add_new(0x00080301, "US", 1)
    deep = Dataset()
    planter.put(deep, 0x00100010, "three levels down")
    unlisted.ReferencedInstanceSequence = [deep]
    ds.PerformedProtocolCodeSequence = [unlisted]  # listed by neither the table nor the IOD
    ds.ReferencedSeriesSequence = [nested]
    planter.beyond_the_table(ds)
    ds.preamble = planter.marker("preamble").encode().ljust(128, b"\0")
    ds.file_meta.SourceApplicationEntityTitle = planter.marker("sender's AE title")
    ds.file_meta.PrivateInformationCreatorUID = "1.2.3.4"
    ds.file_meta.PrivateInformation = planter.marker("private information").encode() + b"\0"
    return ds, planter


def copied(ds: Dataset, tmp_path: Path, profile: Profile | None = None) -> bytes:
    cleaner = Cleaner(profile or read_profile(None), Pseudonyms("project", KEY))
    result = write_copy(BytesIO(encoded(ds)), tmp_path, cleaner)
    return (tmp_path / result.relative_path).read_bytes()


@pytest.mark.parametrize("name", ["ct", "mr", "enhanced"])
def test_no_marker_is_left_and_an_untouched_copy_holds_all_of_them(name: str, tmp_path: Path) -> None:
    ds, planter = planted(name)
    assert len(planter.planted) > 1000
    assert len(planter.found_in(encoded(ds))) >= len(planter.planted) - 10  # some are planted over
    assert planter.found_in(copied(ds, tmp_path)) == []


@pytest.mark.parametrize("name", ["ct", "enhanced"])
def test_what_the_table_removes_is_gone_at_every_depth_and_no_uid_of_the_source_is_left(
    name: str, tmp_path: Path
) -> None:
    """Asked of the table and the source alone: a moved birth date holds no marker, and tells the age to the day."""
    ds, _ = planted(name)
    step = Dataset()
    step.PatientBirthDate, step.PatientAge, step.PatientSex = "19310411", "093Y", "F"
    step.SOPInstanceUIDOfConcatenationSource = "1.2.276.0.7230010.3"
    ds.AnatomicRegionSequence = [step]
    copy = dcmread(BytesIO(copied(ds, tmp_path)))
    options = (*read_profile(None).options, Option.CLEAN_STRUCTURED_CONTENT)
    table = rules.read_table()
    kept = {
        element.keyword
        for element in copy.iterall()
        if element.tag in table
        and element.value
        and table[element.tag].action(options) in ("X", "Z")
        and element.value not in ("REMOVED", copy.PatientID)
    }
    assert kept <= {"ReferencedStudySequence", "ReferencedImageSequence", "SourceImageSequence"}
    uids = {str(element.value) for element in ds.iterall() if element.VR == "UI" and element.VM == 1}
    left = {str(element.value) for element in copy.iterall() if element.VR == "UI"} & uids
    assert all(uid.startswith("1.2.840.10008.") for uid in left), left


@pytest.mark.data
@pytest.mark.parametrize("group", ["ct_head_siemens_tilt4", "mr_enh_xa30_t1", "mr_philips_dualecho_magphase"])
def test_no_marker_is_left_in_an_object_of_a_real_scanner_with_plants_of_a_new_seed(
    group: str, real_series: Callable[[str], Path], tmp_path: Path
) -> None:
    ds = dcmread(min(real_series(group).rglob("*.dcm")))
    ds.ImageType = ["ORIGINAL", "PRIMARY", *list(ds.ImageType)[2:]]
    ds, planter = planted_in(ds, seed=int(os.environ.get("DICOM_NODE_SEED", "20261129")))
    source, copy = (beside_pixels(content, ds) for content in (encoded(ds), copied(ds, tmp_path)))
    assert len(planter.found_in(source)) >= len(planter.planted) - 10
    assert planter.found_in(copy) == []


def beside_pixels(content: bytes, ds: Dataset) -> bytes:
    """The bytes of an object but for those of its pixels: nothing is planted there, and to search them takes long."""
    assert ds.PixelData in content
    return content.replace(ds.PixelData, b"")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_no_marker_is_left_in_other_encodings(syntax: str, tmp_path: Path) -> None:
    ds, planter = planted("mr")
    again = dcmread(BytesIO(encoded(ds)))
    again.file_meta.TransferSyntaxUID = syntax
    for element in again.iterall():
        element.value  # noqa: B018 - decoded, so that it is encoded in the other syntax
    again.PixelData = again.pixel_array.astype("<u2" if syntax == ImplicitVRLittleEndian else ">u2").tobytes()
    buffer = BytesIO()
    dcmwrite(
        buffer,
        again,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax == ImplicitVRLittleEndian,
        enforce_file_format=True,
    )
    cleaner = Cleaner(read_profile(None), Pseudonyms("project", KEY))
    result = write_copy(BytesIO(buffer.getvalue()), tmp_path, cleaner)
    assert planter.found_in((tmp_path / result.relative_path).read_bytes()) == []


@pytest.mark.parametrize("broken", ["recursion", "table", "unlisted text", "code strings", "unknown", "overlays"])
def test_without_any_one_rule_markers_are_left(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector finds what a missing rule leaves; otherwise the tests above would prove nothing."""
    decide = Rules.rule

    def rule(self: Rules, parent: str, tag: int) -> Rule:
        decided = decide(self, parent, tag)
        is_overlay = tag >> 24 in (0x50, 0x60)
        if not decided.keyword and broken in ("unknown", "overlays"):
            is_broken = is_overlay == (broken == "overlays") and tag >> 16 > 0x0007 and tag >> 16 < 0xFFFA
            return Rule(Do.KEEP, Do.DROP, "LO", f"{tag:08X}") if is_broken else decided
        if not decided.keyword or decided.keyword in ("PatientName", "PatientID"):
            return decided
        in_table = tag in rules.read_table()
        is_broken = {
            "recursion": bool(parent),
            "table": in_table and not parent and decided.vr != "UI",
            "unlisted text": not in_table and decided.vr in ("LO", "SH", "UT", "AE", "UR"),
            "code strings": decided.vr == "CS" and not in_table,
        }.get(broken, False)
        kept = Rule(Do.KEEP if decided.vr != "SQ" else Do.RECURSE, Do.DROP, decided.vr, decided.keyword)
        return kept if is_broken else decided

    ds, planter = planted("ct")
    planter.put(ds, 0x00180022, "unlisted code string")
    monkeypatch.setattr(Rules, "rule", rule)
    monkeypatch.setattr(copying, "find_residue", lambda *_: None)  # the second look finds some of them too
    assert planter.found_in(copied(ds, tmp_path))


def test_without_the_rule_on_private_elements_markers_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(_: object, source: Dataset, copy: Dataset, tag: BaseTag) -> None:
        copy[tag] = source[tag]

    monkeypatch.setattr(cleaner_module._Run, "_private", keep)
    monkeypatch.setattr(copying, "find_residue", lambda *_: None)
    ds, planter = planted("ct")
    left = planter.found_in(copied(ds, tmp_path))
    assert {"private without creator", "vendor blob", "name in a private sequence"} <= set(left)


def test_without_a_file_meta_of_our_own_markers_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode_with_its_meta(source: Dataset, copy: Dataset) -> bytes:
        copy.file_meta, copy.preamble = source.file_meta, source.preamble
        buffer = BytesIO()
        dcmwrite(buffer, copy, enforce_file_format=True)
        return buffer.getvalue()

    monkeypatch.setattr(copying, "_encode", encode_with_its_meta)
    ds, planter = planted("ct")
    assert set(planter.found_in(copied(ds, tmp_path))) == {"preamble", "sender's AE title", "private information"}


def test_what_must_survive_survives(tmp_path: Path) -> None:
    ds, _ = planted("ct")
    ds.BodyPartExamined = "HEAD"
    ds.ConvolutionKernel = "H30s"
    copy = dcmread(BytesIO(copied(ds, tmp_path)))
    for keyword in (
        *("SOPClassUID", "Modality", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "PixelData"),
        *("ImageOrientationPatient", "KVP", "ImageType", "InstanceNumber", "BitsStored", "RescaleSlope"),
        *("BodyPartExamined", "ConvolutionKernel", "RescaleType"),
    ):
        assert copy[keyword].value == ds[keyword].value, keyword
    assert copy.AnatomicRegionSequence[0].CodingSchemeDesignator == "99LOCAL"
    assert (
        copy.PrimaryAnatomicStructureSequence[0].CodeMeaning == "Head structure (body structure)"
    )  # the scheme's own words


def test_the_copy_says_what_was_done_and_no_more(tmp_path: Path) -> None:
    ds = hosts()["ct"]
    ds.PatientID, ds.StudyDate = PATIENT_ID, "20240110"
    copy = dcmread(BytesIO(copied(ds, tmp_path)))
    assert copy.PatientIdentityRemoved == "YES"
    codes = [item.CodeValue for item in copy.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107"]
    assert copy.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "RecognizableVisualFeatures" not in copy
    assert copy.PatientName == copy.PatientID != PATIENT_ID
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID


def test_days_between_two_studies_of_a_person_are_kept(tmp_path: Path) -> None:
    dates = []
    for day, folder in (("20240110", "a"), ("20240419", "b")):
        ds = hosts()["ct"]
        ds.PatientID, ds.StudyDate = PATIENT_ID, day
        text = dcmread(BytesIO(copied(ds, tmp_path / folder))).StudyDate
        dates.append(date(int(text[:4]), int(text[4:6]), int(text[6:])))
    assert (dates[1] - dates[0]).days == 100
    assert 365 <= (date(2024, 1, 10) - dates[0]).days < 3650


@pytest.mark.parametrize("value", ["1937.13.40", "1937-04-11", "yesterday", "19370411-19370412"])
def test_a_date_that_is_none_is_dropped_not_kept(value: str, tmp_path: Path) -> None:
    ds = hosts()["mr"]
    ds.PatientID = PATIENT_ID
    ds.AcquisitionDate = "20240101"
    raw = encoded(ds)
    assert raw.count(b"20240101") == 1
    damaged = raw.replace(b"\x08\x00\x22\x00DA\x08\x0020240101", b"\x08\x00\x22\x00DA" + _even(value))
    cleaner = Cleaner(read_profile(None), Pseudonyms("project", KEY))
    result = write_copy(BytesIO(damaged), tmp_path, cleaner)
    content = (tmp_path / result.relative_path).read_bytes()
    assert value.encode() not in content
    assert not dcmread(BytesIO(content)).get("AcquisitionDate")


def test_another_key_or_project_shares_nothing() -> None:
    one, two = Pseudonyms("a", KEY), Pseudonyms("b", KEY)
    other = Pseudonyms("a", bytes(31) + b"\1")
    for left, right in ((one, two), (one, other)):
        assert left.uid("1.2.3") != right.uid("1.2.3")
        assert left.patient("1", "") != right.patient("1", "")
        assert left.fingerprint() != right.fingerprint()
    offsets = {Pseudonyms(str(n), KEY).date_offset("1", "") for n in range(50)}
    assert len(offsets) > 45
    assert one.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"


def test_the_table_is_as_the_standard_has_it() -> None:
    """A few rows of PS3.15 Table E.1-1, read from the standard."""
    table = rules.read_table()
    assert table[0x00100010].basic == "Z"
    assert table[0x00100020].basic == "Z/D"
    assert table[0x00081030].basic == "X"
    assert table[0x0020000D].basic == "U"
    assert len(table) == 652
    assert all(dictionary_VR(tag) for tag in (0x00100010, 0x00081030))


def _even(value: str) -> bytes:
    padded = value.encode() + b" " * (len(value) % 2)
    return len(padded).to_bytes(2, "little") + padded


def test_explicit_little_endian_is_what_the_tests_above_use() -> None:
    assert hosts()["ct"].file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_no_marker_is_in_manifest_messages_logs_or_file_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    planters = []
    for number, name in enumerate(("ct", "mr", "enhanced")):
        ds, planter = planted(name, seed=number)
        planters.append(planter)
        (tmp_path / "in" / f"{planter.marker('file name')}.dcm").write_bytes(encoded(ds))
    odd, planter = planted("ct", seed=8)
    planters.append(planter)
    content = encoded(odd)
    for place in ("StudyInstanceUID", "PatientBirthDate"):  # invalid values, which pydicom warns of by naming them
        value = str(odd[place].value).encode()
        content = content.replace(value, b"Qx".ljust(len(value), b"q"))
    planter.planted[b"Qxqqqqqq"] = "an invalid value"
    (tmp_path / "in" / "odd.dcm").write_bytes(content)
    damaged = bytearray(encoded(planted("ct", seed=9)[0]))
    (tmp_path / "in" / "damaged.dcm").write_bytes(damaged[: len(damaged) // 3])
    key = tmp_path / "study.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    out = tmp_path / "out"
    arguments = ["deidentify", str(tmp_path / "in"), "-o", str(out), "--project", "P", "--key-file", str(key)]
    result = CliRunner().invoke(app, [*arguments, "--workers", "1"])
    said = "\n".join([result.output, caplog.text, *capfd.readouterr(), (out / "manifest.json").read_text()])
    said += "\n".join(str(path.relative_to(out)) for path in out.rglob("*"))
    assert "copied" in said
    for planter in planters:
        assert planter.found_in(said.encode()) == []

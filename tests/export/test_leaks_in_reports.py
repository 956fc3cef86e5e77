"""Nothing planted in a report of other software survives, at any depth; its types, codes and numbers do."""

from __future__ import annotations

from collections import Counter
from datetime import date
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
)

from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import write_copy
from dicom_node.export.errors import NotExportableError
from dicom_node.export.profile import Profile, StructuredReports, read_profile
from dicom_node.export.pseudonyms import Pseudonyms
from tests.export.plants import Planter, encoded

NAMES = Pseudonyms("project", bytes(range(32)))
CLASSES = (EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def content_item(planter: Planter, value_type: str, depth: int) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", value_type
    item.ConceptNameCodeSequence = [code("LOCAL7", "99HOSPITAL", planter.marker("local concept"))]
    place = f"{value_type} at depth {depth}"
    if value_type == "TEXT":
        item.TextValue = f"seen by {planter.marker(place)}"
    elif value_type == "PNAME":
        item.PersonName = f"{planter.marker(place)}^{planter.marker(place)}"
    elif value_type == "UIDREF":
        item.UID = planter.value("UI", place)
    elif value_type == "CODE":
        item.ConceptCodeSequence = [code("121064", "DCM", planter.marker(place))]
    elif value_type == "NUM":
        measured = Dataset()
        measured.NumericValue = "42.5"
        measured.MeasurementUnitsCodeSequence = [code("mL", "UCUM", planter.marker(place))]
        item.MeasuredValueSequence = [measured]
    elif value_type == "DATE":
        item.Date = "20240110"
    elif value_type == "DATETIME":
        item.DateTime = "20240110101112"
    elif value_type == "TIME":
        item.Time = "101112"
    else:
        item.ContinuityOfContent = "SEPARATE"
    return item


def report(planter: Planter, sop_class_uid: str) -> Dataset:
    """A document with every kind of value at each of five depths, and markers around the content."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.preamble = ExplicitVRLittleEndian, bytes(128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, "1.2.3.4.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.PatientID, ds.PatientName, ds.Modality = (
        "MRN-48151623",
        f"{planter.marker('name')}^{planter.marker('name')}",
        "SR",
    )
    ds.ValueType, ds.ContinuityOfContent, ds.ContentDate = "CONTAINER", "SEPARATE", "20240110"
    ds.ConceptNameCodeSequence = [code("126000", "DCM", planter.marker("title"))]
    ds.DocumentTitle = planter.marker("document title")
    ds.CompletionFlagDescription = planter.marker("completion flag")
    author = Dataset()
    author.PersonName, author.InstitutionName = planter.marker("author"), planter.marker("institution")
    author.PersonIdentificationCodeSequence = [code("DRMILLER", "99HOSPITAL", planter.marker("person"))]
    ds.AuthorObserverSequence = [author]
    verified = Dataset()
    verified.VerifyingObserverName = f"{planter.marker('verifier')}^X"
    verified.VerifyingOrganization, verified.VerificationDateTime = planter.marker("organization"), "20240110"
    ds.VerifyingObserverSequence = [verified]
    items = ds
    for depth in range(1, 6):
        kinds = ("TEXT", "PNAME", "UIDREF", "CODE", "NUM", "DATE", "DATETIME", "TIME", "CONTAINER")
        items.ContentSequence = [content_item(planter, kind, depth) for kind in kinds]
        items = items.ContentSequence[-1]
    return ds


def copied(ds: Dataset, folder: Path, *, reports: StructuredReports = StructuredReports.CLEANED) -> bytes:
    cleaner = Cleaner(read_profile(None).model_copy(update={"structured_reports": reports}), NAMES)
    return (folder / write_copy(BytesIO(encoded(ds)), folder, cleaner).relative_path).read_bytes()


@pytest.mark.parametrize("sop_class_uid", CLASSES)
def test_no_marker_is_left_in_a_report_at_any_depth(sop_class_uid: str, tmp_path: Path) -> None:
    planter = Planter(11)
    ds = report(planter, sop_class_uid)
    before = encoded(ds)
    assert len(planter.planted) > 50
    assert len(planter.found_in(before)) == len(planter.planted)
    content = copied(ds, tmp_path)
    assert planter.found_in(content) == []
    assert b"MILLER" not in content
    assert b"HOSPITAL" not in content


def test_types_codes_numbers_and_moved_dates_of_a_report_stay(tmp_path: Path) -> None:
    copy = dcmread(BytesIO(copied(report(Planter(12), ComprehensiveSRStorage), tmp_path)))
    moved = (date(2024, 1, 10) + NAMES.date_offset("MRN-48151623", "")).strftime("%Y%m%d")
    items = copy
    for _ in range(5):
        by_type = {item.ValueType: item for item in items.ContentSequence}
        assert list(by_type) == ["TEXT", "PNAME", "UIDREF", "CODE", "NUM", "DATE", "DATETIME", "TIME", "CONTAINER"]
        assert by_type["NUM"].MeasuredValueSequence[0].NumericValue == "42.5"
        assert by_type["NUM"].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "mL"
        assert by_type["CODE"].ConceptCodeSequence[0].CodeValue == "121064"
        assert (by_type["DATE"].Date, by_type["DATETIME"].DateTime) == (moved, f"{moved}101112")
        assert by_type["TEXT"].TextValue == "REMOVED"
        items = by_type["CONTAINER"]


def test_a_profile_may_refuse_reports(tmp_path: Path) -> None:
    with pytest.raises(NotExportableError, match="does not copy structured reports"):
        copied(report(Planter(13), ComprehensiveSRStorage), tmp_path, reports=StructuredReports.REFUSED)


def about_subject(value_type: str, value: str, scheme: str, **attributes: object) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "HAS OBS CONTEXT", value_type
    item.ConceptNameCodeSequence = [code(value, scheme, "of the subject")]
    for keyword, found in attributes.items():
        setattr(item, keyword, found)
    return item


def number(value: str, unit: str) -> list[Dataset]:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = value, [code(unit, "UCUM", unit)]
    return [measured]


def copied_context(tmp_path: Path, profile: Profile) -> dict[str, Dataset]:
    """Return the content items of a copied report on somebody of 93 years, by their concept."""
    ds = report(Planter(14), ComprehensiveSRStorage)
    ds.ContentSequence = [
        about_subject("DATE", "121031", "DCM", Date="19310411"),
        about_subject("DATETIME", "21112-8", "LN", DateTime="19310411"),
        about_subject("CODE", "121032", "DCM", ConceptCodeSequence=[code("M", "DCM", "Male")]),
        about_subject("NUM", "121033", "DCM", MeasuredValueSequence=number("93", "a")),
        about_subject("NUM", "29463-7", "LN", MeasuredValueSequence=number("61.5", "kg")),
        about_subject("NUM", "121206", "DCM", MeasuredValueSequence=number("12.5", "mm")),  # a distance
    ]
    path = tmp_path / write_copy(BytesIO(encoded(ds)), tmp_path, Cleaner(profile, NAMES)).relative_path
    return {item.ConceptNameCodeSequence[0].CodeValue: item for item in dcmread(path).ContentSequence}


def test_what_a_report_says_of_the_subject_goes_as_it_goes_from_the_header(tmp_path: Path) -> None:
    found = copied_context(tmp_path, read_profile(None))
    assert (found["121031"].Date, found["21112-8"].DateTime) == ("19000101", "19000101000000")
    (sex,) = found["121032"].ConceptCodeSequence
    assert (sex.CodeValue, sex.CodingSchemeDesignator, sex.CodeMeaning) == ("261665006", "SCT", "Unknown")
    assert [len(found[one].MeasuredValueSequence) for one in ("121033", "29463-7", "121206")] == [0, 0, 1]


def test_what_goes_of_the_subject_is_counted_as_gone_not_as_moved_or_kept(tmp_path: Path) -> None:
    ds = report(Planter(14), ComprehensiveSRStorage)
    cleaner = Cleaner(read_profile(None), NAMES)

    def actions(name: str, *items: Dataset) -> Counter[tuple[str, str]]:
        ds.ContentSequence = list(items)
        return write_copy(BytesIO(encoded(ds)), tmp_path / name, cleaner).report.actions

    without = actions("without", about_subject("DATE", "111060", "DCM", Date="20240110"))  # of a study: it is moved
    found = actions(
        "with",
        about_subject("DATE", "111060", "DCM", Date="20240110"),
        about_subject("DATE", "121031", "DCM", Date="19310411"),
        about_subject("DATETIME", "21112-8", "LN", DateTime="19310411"),
        about_subject("CODE", "121032", "DCM", ConceptCodeSequence=[code("M", "DCM", "Male")]),
        about_subject("NUM", "121033", "DCM", MeasuredValueSequence=number("93", "a")),
    )
    more = found - without
    assert {one: n for one, n in more.items() if one[0] in ("Date", "DateTime", "NumericValue")} == {
        ("Date", "dummy"): 1,
        ("DateTime", "dummy"): 1,
    }
    assert (more["ConceptCodeSequence", "dummy"], more["MeasuredValueSequence", "empty"]) == (1, 1)
    assert more["MeasurementUnitsCodeSequence", "recurse"] == 0
    assert more["CodeMeaning", "check_text"] == more["CodeMeaning", "keep"] == 0


def test_a_report_whose_only_date_is_that_of_birth_says_of_no_date_that_it_was_moved(tmp_path: Path) -> None:
    ds = report(Planter(14), ComprehensiveSRStorage)
    ds.ContentSequence = [about_subject("DATE", "121031", "DCM", Date="19310411")]
    del ds.ContentDate, ds.VerifyingObserverSequence
    copy = dcmread(BytesIO(copied(ds, tmp_path)))
    assert "113107" not in [item.CodeValue for item in copy.DeidentificationMethodCodeSequence]


def test_characteristics_in_a_report_stay_where_the_profile_keeps_them_but_no_age_beyond_89(tmp_path: Path) -> None:
    profile = read_profile(None).model_copy(update={"patient_characteristics": True})
    found = copied_context(tmp_path, profile)
    assert found["121031"].Date == "19000101"
    assert found["121032"].ConceptCodeSequence[0].CodeValue == "M"
    assert [len(found[one].MeasuredValueSequence) for one in ("121033", "29463-7")] == [0, 1]


@pytest.mark.parametrize(("value", "unit", "n"), [("1116", "mo", 0), ("33945", "d", 0), ("52", "a", 1)])
def test_an_age_beyond_89_is_known_in_every_unit(value: str, unit: str, n: int, tmp_path: Path) -> None:
    ds = report(Planter(14), ComprehensiveSRStorage)
    ds.ContentSequence = [about_subject("NUM", "121033", "DCM", MeasuredValueSequence=number(value, unit))]
    profile = read_profile(None).model_copy(update={"patient_characteristics": True})
    path = tmp_path / write_copy(BytesIO(encoded(ds)), tmp_path, Cleaner(profile, NAMES)).relative_path
    (item,) = dcmread(path).ContentSequence
    assert len(item.MeasuredValueSequence) == n

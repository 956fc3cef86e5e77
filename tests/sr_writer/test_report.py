"""The SR of a volume, read back by highdicom, dciodvfy and dcmtk (PS3.16 TID 1500)."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.tag import Tag
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, SegmentationStorage

from sr_writer import codes
from sr_writer.encoding import encode_dataset, encoded_element
from sr_writer.objects import Predecessor, WrittenObject
from sr_writer.report import Findings, write_report
from sr_writer.sources import SourceFrame
from tests.factories import ct_series, mr_series
from tests.sr_writer.writing import ALGORITHMS, headers_of, lineage_of, masks_on, write

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
SERIES = {"ct": ct_series(5, rows=11, columns=13), "mr": mr_series(5, rows=11, columns=13)}
# (foreground, anonymized) with or without voxels: what a report must be able to say.
CASES = {"both": (True, True), "no area": (True, False), "area alone": (False, True), "neither": (False, False)}


def numbers_of(segmentation: WrittenObject | None) -> dict[str, int]:
    if segmentation is None:
        return {}
    roles = {"38266002": "foreground", "ANON-AREA": "anonymized"}
    items = dcmread(BytesIO(segmentation.part10())).SegmentSequence
    return {roles[item.SegmentedPropertyTypeCodeSequence[0].CodeValue]: int(item.SegmentNumber) for item in items}


def written(
    case: str, modality: str = "ct", verdict: str = "defaced", predecessors: tuple[Predecessor, ...] = ()
) -> tuple[WrittenObject | None, WrittenObject]:
    series = SERIES[modality]
    headers = headers_of(series)
    masks = [mask & present for mask, present in zip(masks_on(series.voxels.shape), CASES[case], strict=True)]
    segmentation = write(headers, series.truth.get_geometry(), *masks)
    findings = Findings(
        {"foreground": 1234.5678 * CASES[case][0], "anonymized": 56.7 * CASES[case][1]},
        verdict,
        0.98765,
        ("threshold=0.5",),
        ("face in view, anonymised area on 93% of its front",),
    )
    sources = [SourceFrame(str(ds.SOPClassUID), str(ds.SOPInstanceUID), None) for ds in headers]
    report = write_report(
        headers,
        segmentation,
        findings,
        algorithms=ALGORITHMS,
        lineage=lineage_of(series.series_instance_uid),
        written_at=NOON,
        plane_sources=sources,
        predecessors=predecessors,
        segment_numbers=numbers_of(segmentation),
    )
    return segmentation, report


def groups_of(report: WrittenObject) -> dict[str, object]:
    document = hd.sr.srread(BytesIO(report.part10()))
    content = document.content
    groups = [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]
    return {str(group.finding_type.value): group for group in groups}


@pytest.mark.parametrize("case", CASES)
def test_volumes_verdict_and_segments_read_back(case: str) -> None:
    segmentation, report = written(case)
    groups = groups_of(report)
    assert set(groups) == {"38266002", "ANON-AREA"}
    volumes = {
        code: group.get_measurements(hd.sr.CodedConcept("118565006", "SCT", "Volume"))[0].value
        for code, group in groups.items()
    }
    assert volumes == {"38266002": 1234.568 * CASES[case][0], "ANON-AREA": 56.7 * CASES[case][1]}
    question = hd.sr.CodedConcept("FACE-VERDICT", "99DICOMNODE", "Face in the image")
    (verdict,) = groups["ANON-AREA"].get_qualitative_evaluations(question)
    assert verdict.value.value == "DEFACED"
    numbers = {}
    for code, group in groups.items():
        if isinstance(group, hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations):
            reference = group.referenced_segment
            assert reference.referenced_sop_instance_uid == segmentation.sop_instance_uid
            numbers[code] = reference.referenced_segment_numbers[0]
    if segmentation is None:
        assert numbers == {}
    else:
        ds = dcmread(BytesIO(segmentation.part10()))
        assert numbers == {
            item.SegmentedPropertyTypeCodeSequence[0].CodeValue: item.SegmentNumber for item in ds.SegmentSequence
        }


def test_the_share_of_the_body_and_the_probability_are_numbers() -> None:
    group = groups_of(written("both")[1])["ANON-AREA"]
    values = {str(one.name.value): (one.value, str(one.unit.value)) for one in group.get_measurements()}
    assert values["SHARE-OF-BODY"] == (round(100 * 56.7 / 1234.5678, 2), "%")
    assert values["VERDICT-PROB"] == (0.9877, "1")


def test_the_same_findings_make_the_same_bytes_and_other_findings_another_uid() -> None:
    first, again, other = written("both")[1], written("both")[1], written("both", verdict="indeterminate")[1]
    assert first == again
    assert first.sop_instance_uid != other.sop_instance_uid
    assert first.series_instance_uid == other.series_instance_uid


def test_a_region_keeps_its_tracking_uid_when_the_pipeline_changes() -> None:
    series = SERIES["ct"]
    headers = headers_of(series)
    sources = [SourceFrame(str(ds.SOPClassUID), str(ds.SOPInstanceUID), None) for ds in headers]
    uids = set()
    for digest in ("a" * 64, "b" * 64):
        lineage = lineage_of(series.series_instance_uid)
        report = write_report(
            headers,
            None,
            Findings({"foreground": 0.0, "anonymized": 0.0}, "not_applicable", 0.9),
            algorithms=ALGORITHMS,
            lineage=type(lineage)(lineage.series_instance_uid, 1, 1, digest),
            written_at=NOON,
            plane_sources=sources,
            segment_numbers={},
        )
        uids.add(groups_of(report)["ANON-AREA"].tracking_uid)
    assert len(uids) == 1


def test_a_report_names_the_reports_that_it_replaces() -> None:
    earlier = Predecessor("1.2.840.10008.5.1.4.1.1.88.33", "2.25.1", "2.25.2")
    ds = dcmread(BytesIO(written("both", predecessors=(earlier,))[1].part10()))
    series = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == "2.25.2"
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.1"


def test_a_seg_among_the_predecessors_is_no_document() -> None:
    earlier = Predecessor(SegmentationStorage, "2.25.1", "2.25.2")
    assert written("both", predecessors=(earlier,)) == written("both")


def test_predecessors_of_one_series_are_listed_under_it() -> None:
    earlier = tuple(Predecessor(ComprehensiveSRStorage, f"2.25.{number}", "2.25.9") for number in (1, 2))
    (study,) = dcmread(BytesIO(written("both", predecessors=earlier)[1].part10())).PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == ["2.25.1", "2.25.2"]


def test_an_area_smaller_than_the_digits_of_a_volume_keeps_its_segment() -> None:
    series = SERIES["ct"]
    headers = headers_of(series)
    segmentation = write(headers, series.truth.get_geometry(), *masks_on(series.voxels.shape))
    report = write_report(
        headers,
        segmentation,
        Findings({"foreground": 1.0, "anonymized": 0.0}, "indeterminate", 0.5),
        segment_numbers=numbers_of(segmentation),
        algorithms=ALGORITHMS,
        lineage=lineage_of(series.series_instance_uid),
        written_at=NOON,
        plane_sources=[SourceFrame(str(ds.SOPClassUID), str(ds.SOPInstanceUID), None) for ds in headers],
    )
    assert groups_of(report)["ANON-AREA"].referenced_segment.referenced_segment_numbers[0] == 2


def test_comments_are_written_in_ascii_whatever_the_character_set_of_the_source() -> None:
    series = SERIES["ct"]
    headers = headers_of(series)
    report = write_report(
        headers,
        None,
        Findings({"foreground": 0.0, "anonymized": 0.0}, "not_applicable", 0.9, comments=("30\u202f% of the face",)),
        segment_numbers={},
        algorithms=ALGORITHMS,
        lineage=lineage_of(series.series_instance_uid),
        written_at=NOON,
        plane_sources=[SourceFrame(str(ds.SOPClassUID), str(ds.SOPInstanceUID), None) for ds in headers],
    )
    assert b"30?% of the face" in report.encoded_dataset


def test_a_seg_that_was_written_before_leaves_no_trace_in_a_report() -> None:
    """The modifier of the segment's type belongs to the SEG alone; both share the concept."""
    _, report = written("both")
    assert not re.search(rb"\x62\x00\x11\x00SQ", report.encoded_dataset)
    assert "SegmentedPropertyTypeModifierCodeSequence" not in codes.ANONYMIZED_AREA


def test_a_report_has_no_attribute_of_images() -> None:
    assert "PositionReferenceIndicator" not in dcmread(BytesIO(written("both")[1].part10()))


@pytest.mark.peers
@pytest.mark.parametrize("modality", SERIES)
@pytest.mark.parametrize("case", CASES)
def test_dciodvfy_finds_no_error_and_dsrdump_reads_it(case: str, modality: str, tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(written(case, modality)[1].part10())
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    assert [line for line in told.splitlines() if line.startswith("Error")] == []
    dump = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=True).stdout
    assert "Anonymized area covers the face" in dump
    (volume, *_) = re.findall(r'"Volume"\)="([0-9.]+)"', dump)
    assert float(volume) == pytest.approx(1234.568 * CASES[case][0])


@pytest.mark.peers
def test_an_invalid_accession_number_is_no_more_wrong_than_in_the_source(tmp_path: Path) -> None:
    series = ct_series(5, rows=11, columns=13)
    headers = headers_of(series)
    for ds in headers:
        tag = Tag("AccessionNumber")
        ds[tag] = encoded_element(tag, "SH", b"RIS-2026-0123456789-A")
    segmentation = write(headers, series.truth.get_geometry(), *masks_on(series.voxels.shape))
    report = write_report(
        headers,
        segmentation,
        Findings({"foreground": 1.0, "anonymized": 1.0}, "defaced", 0.9),
        segment_numbers=numbers_of(segmentation),
        algorithms=ALGORITHMS,
        lineage=lineage_of(series.series_instance_uid),
        written_at=NOON,
        plane_sources=[SourceFrame(str(ds.SOPClassUID), str(ds.SOPInstanceUID), None) for ds in headers],
    )
    source = WrittenObject(
        str(headers[0].SOPClassUID),
        str(headers[0].SOPInstanceUID),
        series.series_instance_uid,
        series.study_instance_uid,
        ExplicitVRLittleEndian,
        encode_dataset(headers[0]),
    )
    errors = errors_of_dciodvfy(source, tmp_path)
    assert any("Accession" in line for line in errors)
    for one in (segmentation, report):
        assert errors_of_dciodvfy(one, tmp_path) <= errors


def errors_of_dciodvfy(written_object: WrittenObject, folder: Path) -> set[str]:
    path = folder / "object.dcm"
    path.write_bytes(written_object.part10())
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    return {line for line in told.splitlines() if line.startswith("Error")}


def test_every_code_fits_into_code_value() -> None:
    """A longer one becomes Long Code Value, which readers of TID 1411 stumble over."""
    concepts = [one for one in vars(codes).values() if isinstance(one, hd.sr.CodedConcept)]
    assert all(len(one.value) <= 16 for one in (*concepts, *codes.VERDICTS.values()))

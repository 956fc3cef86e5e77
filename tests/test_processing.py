"""From instances to results: what comes out of the one function behind worker and offline run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from dicom_node.pipeline_digest import pipeline_digest
from dicom_node.processing import (
    ProcessedVolume,
    process_series,
    process_volume,
    volume_name,
)
from dicom_node.report import caption, encode_report
from inference.models import read_model_spec
from inference.segment import Models, load_models
from inference.series.errors import SliceGapError
from inference.series.nifti import read_nifti
from inference.series.stack_choice import StackChoice
from tests.factories import SyntheticSeries, ct_series
from tests.tiny_models import write_tiny_model

JOB_QUEUED_AT = datetime(2026, 3, 4, 12, 30, 15, tzinfo=UTC)
BODY_ABOVE_HU = -500.0
SPACING_MM = (2.0, 1.5, 1.8)  # of the series and of the models, so that nothing is interpolated


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    options = {"spacing_mm": SPACING_MM}
    return load_models(
        read_model_spec(write_tiny_model(root / "foreground", "foreground", above=BODY_ABOVE_HU, **options)),
        read_model_spec(write_tiny_model(root / "anonymized", "anonymized", above=1e6, **options)),
        device="cpu",
    )


@pytest.fixture
def series() -> SyntheticSeries:
    return ct_series(n_slices=14, spacing_mm=SPACING_MM)


def processed(series: SyntheticSeries, models: Models, *, generation: int = 1) -> ProcessedVolume:
    (volume,) = process_series(
        series,
        models,
        generation=generation,
        pipeline_digest=pipeline_digest(models.identities),
        written_at=JOB_QUEUED_AT,
    )
    return volume


def test_a_series_becomes_one_seg_and_one_sr_with_the_dates_of_the_job(series: SyntheticSeries, models: Models) -> None:
    volume = processed(series, models)

    written, report = volume.objects
    document = dcmread(DicomBytesIO(report.part10()))
    assert (document.SOPClassUID, document.ContentDate, document.ContentTime) == (
        ComprehensiveSRStorage,
        "20260304",
        "123015",
    )
    ds = dcmread(DicomBytesIO(written.part10()))
    assert ds.SOPClassUID == SegmentationStorage
    assert (ds.ContentDate, ds.ContentTime) == ("20260304", "123015")
    assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == series.series_instance_uid
    assert written.study_instance_uid == series.study_instance_uid
    found = volume.source.volume.with_array(volume.segmentation.foreground.astype(np.uint8))
    overlap = found.match_geometry(series.truth).array.astype(bool)
    truth = series.voxels > BODY_ABOVE_HU
    assert 2 * np.count_nonzero(overlap & truth) / (overlap.sum() + truth.sum()) > 0.95


def test_the_same_job_gives_the_same_bytes(series: SyntheticSeries, models: Models) -> None:
    first, again = processed(series, models), processed(series, models)

    assert [written.part10() for written in first.objects] == [written.part10() for written in again.objects]
    assert first.overlay_png == again.overlay_png
    assert {**first.report.as_json(), "timings_s": 0} == {**again.report.as_json(), "timings_s": 0}


def test_the_sr_says_what_the_report_says(series: SyntheticSeries, models: Models) -> None:
    volume = processed(series, models)

    said = volume.report.as_json()
    segmentation, document = volume.objects
    content = hd.sr.srread(DicomBytesIO(document.part10())).content
    (body,) = content.get_volumetric_roi_measurement_groups()
    (area,) = content.get_image_measurement_groups()  # nothing found, so there is no segment to refer to
    assert body.referenced_segment.referenced_sop_instance_uid == segmentation.sop_instance_uid
    assert list(body.referenced_segment.referenced_segment_numbers) == [1]
    assert measured(body)["118565006"] == said["foreground_ml"]
    assert measured(area)["118565006"] == said["anonymized_ml"] == 0.0
    assert measured(area)["VERDICT-PROB"] == said["probability"]
    (verdict,) = area.get_qualitative_evaluations(hd.sr.CodedConcept("FACE-VERDICT", "99DICOMNODE", "Face"))
    assert verdict.value.value == str(said["verdict"]).upper().replace("_", "-")
    texts = [str(item.TextValue) for item in area[0].ContentSequence if item.ValueType == "TEXT"]
    assert f"weights_sha256={models.identities[1].sha256}" in texts
    assert any(text.startswith("calibration_sha256=") for text in texts)
    assert "defaced_from=0.8399" in texts  # as inference/verdict/calibration.yaml has it
    assert set(said["reasons"]) | {remark["text"] for remark in said["remarks"]} <= set(texts)
    segment = dcmread(DicomBytesIO(segmentation.part10())).SegmentSequence[0]
    assert (body.tracking_uid, body.tracking_identifier) == (segment.TrackingUID, segment.TrackingID)


def measured(group: hd.sr.MeasurementsAndQualitativeEvaluations) -> dict[str, float]:
    return {str(one.name.value): float(one.value) for one in group.get_measurements()}


def test_a_volume_in_which_nothing_was_found_has_an_sr_and_no_seg(
    series: SyntheticSeries, models: Models, tmp_path: Path
) -> None:
    options = {"spacing_mm": SPACING_MM, "above": 1e6}
    finding_nothing = load_models(
        read_model_spec(write_tiny_model(tmp_path / "foreground", "foreground", **options)),
        models.anonymized.spec,
        device="cpu",
    )
    volume = processed(series, finding_nothing)
    (document,) = volume.objects
    content = hd.sr.srread(DicomBytesIO(document.part10())).content
    assert content.get_volumetric_roi_measurement_groups() == []
    groups = content.get_image_measurement_groups()
    assert [measured(group)["118565006"] for group in groups] == [0.0, 0.0]
    assert [len(group.source_images) for group in groups] == [14, 14]


def test_another_generation_gives_other_objects(series: SyntheticSeries, models: Models) -> None:
    first, second = processed(series, models), processed(series, models, generation=2)

    assert first.objects[0].sop_instance_uid != second.objects[0].sop_instance_uid
    assert second.report.as_json()["generation"] == 2


def test_both_segments_are_named_also_when_one_was_not_found(series: SyntheticSeries, models: Models) -> None:
    volume = processed(series, models)

    foreground, anonymized = volume.report.as_json()["segments"]
    assert (foreground["role"], foreground["is_found"], foreground["segment_number"]) == ("foreground", True, 1)
    assert (anonymized["role"], anonymized["is_found"], anonymized["segment_number"]) == ("anonymized", False, None)
    assert volume.report.as_json()["foreground_ml"] == pytest.approx(
        np.count_nonzero(volume.segmentation.foreground) * 2.0 * 1.5 * 1.8 / 1000.0, abs=1e-3
    )
    assert volume.report.as_json()["anonymized_ml"] == 0.0
    assert "no anonymised area found" in caption(volume.report.as_json())[1]


def test_the_report_is_plain_json_and_names_no_patient(series: SyntheticSeries, models: Models) -> None:
    named = series.edited(lambda ds, _: setattr(ds, "PatientName", "Secret^Person"))

    encoded = encode_report(processed(named, models).report.as_json())

    assert json.loads(encoded)["series_instance_uid"] == series.series_instance_uid
    assert b"Secret" not in encoded


def test_a_series_that_is_no_volume_is_refused_with_its_reason(series: SyntheticSeries, models: Models) -> None:
    with pytest.raises(SliceGapError):
        process_series(
            series[:6] + series[10:],
            models,
            generation=1,
            pipeline_digest=pipeline_digest(models.identities),
            written_at=JOB_QUEUED_AT,
        )


def test_a_nifti_file_gets_a_report_and_no_objects(series: SyntheticSeries, models: Models, tmp_path: Path) -> None:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.affine[:, [2, 1, 0, 3]]
    nib.save(nib.Nifti1Image(series.voxels.transpose(2, 1, 0).astype(np.int16), affine), tmp_path / "ct.nii.gz")

    volume = process_volume(
        read_nifti(tmp_path / "ct.nii.gz"),
        models,
        name="ct",
        n_stacks=1,
        generation=1,
        pipeline_digest=pipeline_digest(models.identities),
        written_at=None,
        reading_s=0.0,
    )

    assert volume.objects == ()
    assert volume.report.as_json()["series_instance_uid"] is None
    from_dicom = processed(series, models)
    assert volume.report.as_json()["foreground_ml"] == pytest.approx(
        from_dicom.report.as_json()["foreground_ml"], rel=0.01
    )


def test_results_name_the_stack_that_they_belong_to(models: Models) -> None:
    def joined(ds: Dataset, kvp: int) -> None:
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = "2.25.1", "2.25.2", "2.25.3"
        ds.KVP = kvp

    instances = [
        instance
        for kvp in (80, 140)
        for instance in ct_series(6, spacing_mm=SPACING_MM, seed=str(kvp), edit=lambda ds, _, kvp=kvp: joined(ds, kvp))
    ]
    options = {"generation": 1, "pipeline_digest": pipeline_digest(models.identities), "written_at": JOB_QUEUED_AT}
    volumes = process_series(instances, models, **options)
    assert [volume.report.as_json()["stack_name"] for volume in volumes] == ["KVP 80", "KVP 140"]
    written = [dcmread(DicomBytesIO(volume.objects[0].part10())) for volume in volumes]
    assert [ds.ContentDescription for ds in written] == [
        "Foreground, altered area: KVP 80",
        "Foreground, altered area: KVP 140",
    ]
    assert len({ds.SOPInstanceUID for ds in written}) == 2
    documents = [dcmread(DicomBytesIO(volume.objects[1].part10())) for volume in volumes]
    assert len({(ds.SeriesInstanceUID, ds.SeriesDescription, ds.SeriesNumber) for ds in documents}) == 1
    assert [ds.InstanceNumber for ds in documents] == [1, 2]
    assert "stack 2 of the series: KVP 140" in volumes[1].objects[1].encoded_dataset.decode("latin-1")
    (only,) = process_series(instances, models, stacks=(StackChoice.FIRST,), **options)
    assert only.report.as_json()["n_stacks"] == 1
    assert (
        "1 of 2 stacks"
        in {remark["code"]: remark["text"] for remark in only.report.as_json()["remarks"]}["stacks-not-run"]
    )


def test_stages_are_announced_in_order_and_timed(series: SyntheticSeries, models: Models) -> None:
    stages: list[str] = []

    (volume,) = process_series(
        series,
        models,
        generation=1,
        pipeline_digest="0" * 64,
        written_at=JOB_QUEUED_AT,
        on_stage=stages.append,
    )

    assert stages[0] == "reading"
    assert stages[-1] == "writing"
    assert stages == list(volume.report.as_json()["timings_s"])


def test_the_pipeline_digest_changes_with_models_and_rules(models: Models, tmp_path: Path) -> None:
    other = Models(
        models.foreground,
        load_models(
            models.foreground.spec,
            read_model_spec(write_tiny_model(tmp_path / "anonymized", "anonymized", above=5.0)),
            device="cpu",
        ).anonymized,
        models.device,
    )

    digests = {
        pipeline_digest(models.identities),
        pipeline_digest(models.identities, "a"),
        pipeline_digest(models.identities, "b"),
        pipeline_digest(other.identities),
    }

    assert len(digests) == 4
    assert pipeline_digest(models.identities) == pipeline_digest(models.identities)


def test_stacks_are_numbered_from_the_second() -> None:
    assert [volume_name("1.2", number) for number in (1, 2, 3)] == ["1.2", "1.2-stack2", "1.2-stack3"]

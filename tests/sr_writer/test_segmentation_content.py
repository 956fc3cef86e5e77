"""What a SEG says beside its voxels: segments, lineage, source references, times."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from sr_writer.errors import GridMismatchError, PlaneSourceError, SourceHeaderError
from sr_writer.objects import AlgorithmIdentity, WrittenObject
from sr_writer.sources import SourceFrame
from tests.factories import ct_series
from tests.sr_writer.writing import (
    ALGORITHMS,
    ANONYMIZED_TYPE,
    FOREGROUND_TYPE,
    headers_of,
    lineage_of,
    lps_points,
    masks_on,
    read_with_highdicom,
    write,
    write_phantom,
)


def test_both_segments_carry_their_codes_labels_and_numbers() -> None:
    _, ds = write_phantom(is_face_anonymized=True)
    foreground, anonymized = ds.SegmentSequence
    assert (foreground.SegmentNumber, foreground.SegmentLabel) == (1, "Foreground")
    assert (anonymized.SegmentNumber, anonymized.SegmentLabel) == (2, "Anonymized area")
    assert foreground.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert foreground.SegmentedPropertyTypeCodeSequence[0].CodeValue == "38266002"
    assert anonymized.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "309825002"
    area = anonymized.SegmentedPropertyTypeCodeSequence[0]
    assert (area.CodeValue, area.CodingSchemeDesignator, area.CodeMeaning) == (
        "ANON-AREA",
        "99DICOMNODE",
        "Anonymized area",
    )
    assert area.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "113102"
    assert anonymized.AnatomicRegionSequence[0].CodeValue == "89545001"
    assert ds.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99DICOMNODE"


def test_the_face_is_named_only_where_the_area_lies_there() -> None:
    _, ds = write_phantom()
    assert "AnatomicRegionSequence" not in ds.SegmentSequence[1]


def test_each_segment_names_its_algorithm_version_and_weights() -> None:
    _, ds = write_phantom()
    for segment, algorithm in zip(ds.SegmentSequence, ALGORITHMS.values(), strict=True):
        identification = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert identification.AlgorithmName == algorithm.name
        assert identification.AlgorithmVersion == algorithm.version
        assert algorithm.sha256 in identification.AlgorithmParameters


def test_the_object_is_binary_explicit_little_endian_without_empty_frames() -> None:
    written, ds = write_phantom(ct_series(7, rows=11, columns=13))
    foreground, anonymized = masks_on((7, 11, 13))
    n_frames = np.count_nonzero(foreground.any(axis=(1, 2))) + np.count_nonzero(anonymized.any(axis=(1, 2)))
    assert written.transfer_syntax_uid == ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert (ds.SegmentationType, ds.BitsAllocated, ds.SegmentsOverlap) == ("BINARY", 1, "YES")
    assert ds.NumberOfFrames == n_frames < 14


def test_no_segmentation_is_written_for_two_empty_masks() -> None:
    series = ct_series(3)
    nothing = np.zeros(series.voxels.shape, dtype=bool)
    assert write(headers_of(series), series.truth.get_geometry(), nothing, nothing) is None


@pytest.mark.parametrize(("kept", "code"), [(0, FOREGROUND_TYPE), (1, ANONYMIZED_TYPE)])
def test_a_lone_segment_has_number_one_and_is_known_by_its_code(kept: int, code: tuple[str, str]) -> None:
    series = ct_series(5, rows=8, columns=6)
    masks = list(masks_on(series.voxels.shape))
    masks[1 - kept][:] = False
    written = write(headers_of(series), series.truth.get_geometry(), *masks)
    assert written is not None
    assert [s.SegmentNumber for s in dcmread(BytesIO(written.part10())).SegmentSequence] == [1]
    assert read_with_highdicom(written.part10()) == {code: lps_points(masks[kept], series.affine)}


def test_the_same_input_gives_the_same_bytes() -> None:
    assert write_phantom()[0] == write_phantom()[0]


def _uids(written: WrittenObject) -> tuple[str, str]:
    return written.series_instance_uid, written.sop_instance_uid


def test_stacks_of_a_series_share_a_result_series_and_generations_do_not() -> None:
    series = ct_series(4)
    uid = series.series_instance_uid
    first = _uids(write_phantom(series)[0])
    second_stack = _uids(write_phantom(series, lineage=lineage_of(uid, stack_number=2))[0])
    second_generation = _uids(write_phantom(series, lineage=lineage_of(uid, generation=2))[0])
    other_pipeline = _uids(write_phantom(series, lineage=lineage_of(uid, pipeline_digest="d" * 64))[0])
    assert second_stack[0] == first[0]
    assert len({first[0], second_generation[0], other_pipeline[0]}) == 3
    assert len({uids[1] for uids in (first, second_stack, second_generation, other_pipeline)}) == 4


def test_other_content_never_shares_a_sop_instance_uid() -> None:
    series = ct_series(4)
    first, ds = write_phantom(series)
    later, _ = write_phantom(series, written_at=datetime(2024, 5, 6, 7, 8, 10, tzinfo=UTC))
    renamed, _ = write_phantom(series.edited(lambda ds, _: setattr(ds, "PatientName", "Other^Name")))
    assert len({first.sop_instance_uid, later.sop_instance_uid, renamed.sop_instance_uid}) == 3
    assert first.sop_instance_uid.startswith("2.25.")
    assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID == first.sop_instance_uid


def test_dates_and_times_come_from_the_job_in_the_time_zone_of_the_source() -> None:
    _, ds = write_phantom()
    assert (ds.ContentDate, ds.ContentTime) == ("20240506", "070809")

    def zone(ds: Dataset, _: int) -> None:
        ds.TimezoneOffsetFromUTC = "-0830"

    _, ds = write_phantom(ct_series(4, edit=zone))
    assert ds.TimezoneOffsetFromUTC == "-0830"
    assert (ds.SeriesDate, ds.SeriesTime, ds.StudyTime) == ("20240505", "223809", "101112")


@pytest.mark.parametrize("offset", ["+9999", "+1460", "0100", "+\u0662\u0662\u0662\u0662"])
def test_a_source_with_an_impossible_time_zone_gets_its_result_all_the_same(offset: str) -> None:
    def zone(ds: Dataset, _: int) -> None:
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.TimezoneOffsetFromUTC = offset

    _, ds = write_phantom(ct_series(4, edit=zone))
    assert (ds.SeriesDate, ds.SeriesTime) == ("20240506", "070809")


def test_all_source_instances_are_referenced_in_their_order() -> None:
    series = ct_series(5)
    _, ds = write_phantom(series)
    (referenced,) = ds.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == series.series_instance_uid
    assert [item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence] == [
        source.SOPInstanceUID for source in series.datasets()
    ]


def test_a_source_without_frame_of_reference_gets_a_derived_one() -> None:
    series = ct_series(4, edit=lambda ds, _: delattr(ds, "FrameOfReferenceUID"))
    geometry = hd.VolumeGeometry(series.affine, series.voxels.shape, "PATIENT")
    masks = masks_on(series.voxels.shape)
    frames_of_reference = set()
    for stack_number in (1, 2):
        lineage = lineage_of(series.series_instance_uid, stack_number=stack_number)
        written = write(headers_of(series), geometry, *masks, lineage=lineage)
        assert written is not None
        frames_of_reference.add(dcmread(BytesIO(written.part10())).FrameOfReferenceUID)
    (uid,) = frames_of_reference
    assert uid.startswith("2.25.")


def test_lossy_source_pixels_are_said() -> None:
    def lossy(ds: Dataset, _: int) -> None:
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionRatio = "12.5"
        ds.LossyImageCompressionMethod = "ISO_10918_1"

    _, ds = write_phantom(ct_series(4, edit=lossy))
    assert (ds.LossyImageCompression, ds.LossyImageCompressionRatio) == ("01", 12.5)
    assert write_phantom()[1].LossyImageCompression == "00"


def enhanced_header(series_affine: np.ndarray, frame_order: list[int]) -> Dataset:
    """One multi-frame header with frames at the slices in ``frame_order``."""
    header = headers_of(ct_series(1))[0]
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    header.NumberOfFrames = len(frame_order)
    header.PerFrameFunctionalGroupsSequence = []
    for slice_index in frame_order:
        position = Dataset()
        position.ImagePositionPatient = [f"{v:.6f}" for v in series_affine[:3, 3] + slice_index * series_affine[:3, 0]]
        item = Dataset()
        item.PlanePositionSequence = [position]
        header.PerFrameFunctionalGroupsSequence.append(item)
    return header


def test_frames_of_a_multi_frame_source_are_found_by_position() -> None:
    series = ct_series(5)
    header = enhanced_header(series.affine, [4, 2, 0, 1, 3])
    foreground = np.ones(series.voxels.shape, dtype=bool)
    written = write([header], series.truth.get_geometry(), foreground, foreground)
    assert written is not None
    ds = dcmread(BytesIO(written.part10()))
    sources = [item.DerivationImageSequence[0].SourceImageSequence[0] for item in ds.PerFrameFunctionalGroupsSequence]
    assert [source.ReferencedFrameNumber for source in sources] == [3, 4, 2, 5, 1] * 2
    (reference,) = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert reference.ReferencedSOPInstanceUID == header.SOPInstanceUID


def test_two_frames_at_one_position_need_to_be_told_apart() -> None:
    series = ct_series(3)
    header = enhanced_header(series.affine, [0, 1, 2, 0, 1, 2])
    geometry, masks = series.truth.get_geometry(), masks_on(series.voxels.shape)
    with pytest.raises(PlaneSourceError, match="slice 1 of the mask lies at the position of 2 source frames"):
        write([header], geometry, *masks)
    frames = [SourceFrame(header.SOPClassUID, header.SOPInstanceUID, number) for number in (4, 5, 6)]
    written = write([header], geometry, *masks, plane_sources=frames)
    assert written is not None
    item = dcmread(BytesIO(written.part10())).PerFrameFunctionalGroupsSequence[0]
    assert item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 5


def test_a_mask_of_another_shape_is_refused() -> None:
    series = ct_series(3, rows=8, columns=6)
    foreground, anonymized = masks_on((3, 6, 8))
    with pytest.raises(GridMismatchError, match=r"shape \(3, 6, 8\), expected \(3, 8, 6\)"):
        write(headers_of(series), series.truth.get_geometry(), foreground, anonymized)


def test_a_missing_header_is_refused() -> None:
    series = ct_series(4)
    with pytest.raises(GridMismatchError, match=r"source headers has shape \(3,\), expected \(4,\)"):
        write(headers_of(series)[1:], series.truth.get_geometry(), *masks_on(series.voxels.shape))


def test_a_source_without_study_is_refused_by_name() -> None:
    series = ct_series(4)
    headers = headers_of(series)
    del headers[0].StudyInstanceUID
    with pytest.raises(SourceHeaderError, match=f"series {series.series_instance_uid}: StudyInstanceUID is missing"):
        write(headers, series.truth.get_geometry(), *masks_on(series.voxels.shape))


@pytest.mark.parametrize(
    "changes", [{"name": ""}, {"name": "a\\b"}, {"version": "ü"}, {"sha256": "A" * 64}, {"name": "x" * 65}]
)
def test_an_algorithm_that_cannot_be_written_is_refused_early(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="algorithm"):
        AlgorithmIdentity(**({"name": "n", "version": "1", "sha256": "a" * 64} | changes))

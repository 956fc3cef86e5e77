"""The proof sees every way in which written bytes can differ from the masks."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from sr_writer import segmentation
from sr_writer.codes import SEGMENT_TERMS
from sr_writer.errors import GeometryProofError
from sr_writer.frame_grid import FrameGrid
from sr_writer.proof import prove_segmentation
from tests.factories import ct_series
from tests.sr_writer.writing import masks_on, write_phantom


def _flip_a_pixel(ds: Dataset) -> None:
    pixels = bytearray(ds.PixelData)
    pixels[100] ^= 0b1000
    ds.PixelData = bytes(pixels)


def _shift_a_frame(ds: Dataset) -> None:
    position = ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient
    position[0] = float(position[0]) + 0.05


def _shift_all_by_a_slice(ds: Dataset) -> None:
    for item in ds.PerFrameFunctionalGroupsSequence:
        position = item.PlanePositionSequence[0].ImagePositionPatient
        position[2] = float(position[2]) + 3.0


def _swap_two_frames(ds: Dataset) -> None:
    first, second = (ds.PerFrameFunctionalGroupsSequence[i].PlanePositionSequence[0] for i in (1, 2))
    first.ImagePositionPatient, second.ImagePositionPatient = second.ImagePositionPatient, first.ImagePositionPatient


def _repeat_a_position(ds: Dataset) -> None:
    first, second = (ds.PerFrameFunctionalGroupsSequence[i].PlanePositionSequence[0] for i in (1, 2))
    first.ImagePositionPatient = second.ImagePositionPatient


def _swap_spacing(ds: Dataset) -> None:
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = measures.PixelSpacing[::-1]


def _mirror(ds: Dataset) -> None:
    orientation = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def _transpose_matrix(ds: Dataset) -> None:
    ds.Rows, ds.Columns = ds.Columns, ds.Rows


def _exchange_segments(ds: Dataset) -> None:
    first, second = ds.SegmentSequence
    first.SegmentNumber, second.SegmentNumber = second.SegmentNumber, first.SegmentNumber


def _drop_last_frame(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[-1]


def _drop_a_segment(ds: Dataset) -> None:
    del ds.SegmentSequence[1]


def _other_type(ds: Dataset) -> None:
    ds.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeValue = "OTHER"


def _other_frame_of_reference(ds: Dataset) -> None:
    ds.FrameOfReferenceUID = "2.25.7"


@pytest.mark.parametrize(
    ("tamper", "finding"),
    [
        (_flip_a_pixel, "1 voxels differ in segment"),
        (_shift_a_frame, "frame 4 lies 0.071 voxels off slice"),
        (_shift_all_by_a_slice, "differ in segment 1|unexpected frame|voxels off slice"),
        (_swap_two_frames, "voxels differ in segment 1"),
        (_repeat_a_position, "voxels differ|unexpected frame"),
        (_swap_spacing, "voxels off slice"),
        (_mirror, "voxels off slice"),
        (_transpose_matrix, "frames of 13 x 11, expected \\(11, 13\\)"),
        (_exchange_segments, "voxels differ|unexpected frame"),
        (_drop_last_frame, "segment 2 lacks 1 slices"),
        (_drop_a_segment, "1 segments are missing"),
        (_other_type, "segment 2 was not meant"),
        (_other_frame_of_reference, "frame of reference 2.25.7, expected"),
    ],
)
def test_a_changed_object_fails_the_proof(tamper: Callable[[Dataset], None], finding: str) -> None:
    series = ct_series(7, rows=11, columns=13)
    written, ds = write_phantom(series)
    expected = {
        SEGMENT_TERMS[role].property_type: mask
        for role, mask in zip(("foreground", "anonymized"), masks_on((7, 11, 13)), strict=True)
    }
    grid, frame_of_reference_uid = FrameGrid.from_geometry(series.truth.get_geometry()), str(ds.FrameOfReferenceUID)
    prove_segmentation(written.part10(), grid, frame_of_reference_uid, expected)
    tamper(ds)
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    with pytest.raises(GeometryProofError, match=finding):
        prove_segmentation(buffer.getvalue(), grid, frame_of_reference_uid, expected)


def test_nothing_is_returned_when_the_packing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    pack_frames = segmentation.pack_frames
    monkeypatch.setattr(segmentation, "pack_frames", lambda frames, masks: pack_frames(frames[::-1], masks))
    with pytest.raises(GeometryProofError, match="voxels differ"):
        write_phantom()

"""Verify a written segmentation: read its bytes back with independent code and compare them with the masks.

No code is shared with ``frames``. Positions, orientation and spacing are read from the file frame by frame and combined
to an affine (PS3.3 C.7.6.2.1.1), and every voxel of every slice is compared at its position in patient space, even if
the slices are sheared or unevenly spaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Final

import numpy as np
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from sr_writer.errors import GeometryProofError
from sr_writer.frame_grid import FrameGrid

# Largest distance, in voxels, of a frame's corner from its expected position. Stored decimals are exact to some 1e-6
# voxels over a whole slice; a real error is half a voxel or more.
TOLERANCE_VOXELS: Final = 0.01


def prove_segmentation(
    part10: bytes,
    grid: FrameGrid,
    frame_of_reference_uid: str,
    expected: Mapping[CodedConcept, NDArray[np.bool_]],
) -> None:
    """Raise unless the file holds exactly the expected masks at their positions in ``grid``.

    Parameters
    ----------
    part10
        The whole file.
    expected
        (slice, row, column) mask of each segment, by its property type.

    Raises
    ------
    GeometryProofError
        The file differs; the message names the first difference.
    """
    ds = dcmread(BytesIO(part10))
    uid = str(ds.SOPInstanceUID)
    if str(ds.FrameOfReferenceUID) != frame_of_reference_uid:
        raise GeometryProofError(uid, f"frame of reference {ds.FrameOfReferenceUID}, expected {frame_of_reference_uid}")
    if (ds.Rows, ds.Columns) != grid.shape[1:]:
        raise GeometryProofError(uid, f"frames of {ds.Rows} x {ds.Columns}, expected {grid.shape[1:]}")
    masks = _masks_by_segment_number(ds, expected)
    unseen = {number: set(np.flatnonzero(mask.any(axis=(1, 2))).tolist()) for number, mask in masks.items()}
    lps_to_voxels = _lps_to_voxels(grid)
    shared = ds.SharedFunctionalGroupsSequence[0]
    for frame_index, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        slice_index = _slice_of_frame(uid, frame_index, ds, _frame_affine(groups, shared), lps_to_voxels, grid)
        if number not in masks or slice_index not in unseen[number]:
            raise GeometryProofError(uid, f"unexpected frame of segment {number}, slice {slice_index + 1}")
        unseen[number].remove(slice_index)
        voxels = _unpack_frame(ds, frame_index)
        if not np.array_equal(voxels, masks[number][slice_index]):
            n_voxels = np.count_nonzero(voxels != masks[number][slice_index])
            raise GeometryProofError(uid, f"{n_voxels} voxels differ in segment {number}, slice {slice_index + 1}")
    for number, slices in unseen.items():
        if slices:
            raise GeometryProofError(uid, f"segment {number} lacks {len(slices)} slices, first {min(slices) + 1}")


def _masks_by_segment_number(
    ds: Dataset, expected: Mapping[CodedConcept, NDArray[np.bool_]]
) -> dict[int, NDArray[np.bool_]]:
    by_code = {(code.value, code.scheme_designator): mask for code, mask in expected.items()}
    masks = {}
    for segment in ds.SegmentSequence:
        code = segment.SegmentedPropertyTypeCodeSequence[0]
        mask = by_code.pop((code.CodeValue, code.CodingSchemeDesignator), None)
        if mask is None:
            raise GeometryProofError(str(ds.SOPInstanceUID), f"segment {segment.SegmentNumber} was not meant")
        masks[int(segment.SegmentNumber)] = mask
    if by_code:
        raise GeometryProofError(str(ds.SOPInstanceUID), f"{len(by_code)} segments are missing")
    return masks


def _frame_affine(groups: Dataset, shared: Dataset) -> NDArray[np.float64]:
    """Return the (4, 3) map from (row, column, 1) of a frame to homogeneous LPS mm (PS3.3 equation C.7.6.2.1-1)."""
    position = [float(v) for v in groups.PlanePositionSequence[0].ImagePositionPatient]
    orientation = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    row_spacing_mm, column_spacing_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.zeros((4, 3))
    affine[:3, 0] = along_column * row_spacing_mm
    affine[:3, 1] = along_row * column_spacing_mm
    affine[:3, 2] = position
    affine[3, 2] = 1.0
    return affine


def _lps_to_voxels(grid: FrameGrid) -> NDArray[np.float64]:
    """Return the (3, 3) map from a distance in LPS mm to voxels along (normal, column direction, row direction)."""
    step = np.cross(grid.row_direction, grid.column_direction) * grid.slice_thickness_mm
    axes = (step, grid.column_direction * grid.spacing_mm[0], grid.row_direction * grid.spacing_mm[1])
    return np.linalg.inv(np.column_stack(axes))


def _slice_of_frame(
    uid: str,
    frame_index: int,
    ds: Dataset,
    frame_affine: NDArray[np.float64],
    lps_to_voxels: NDArray[np.float64],
    grid: FrameGrid,
) -> int:
    """Return the index of a frame's slice; checking three corners is enough for all voxels of an affine map."""
    corners = np.array([(0, 0), (0, ds.Columns - 1), (ds.Rows - 1, 0)])
    found_mm = (frame_affine @ np.column_stack((corners, np.ones(3))).T)[:3].T
    slice_index = int(np.argmin(np.linalg.norm(grid.positions_mm - found_mm[0], axis=1)))
    row_steps = np.outer(corners[:, 0] * grid.spacing_mm[0], grid.column_direction)
    column_steps = np.outer(corners[:, 1] * grid.spacing_mm[1], grid.row_direction)
    meant_mm = grid.positions_mm[slice_index] + row_steps + column_steps
    distance = float(np.abs((found_mm - meant_mm) @ lps_to_voxels.T).max())
    if distance > TOLERANCE_VOXELS:
        raise GeometryProofError(
            uid, f"frame {frame_index + 1} lies {distance:.3f} voxels off slice {slice_index + 1} of the grid"
        )
    return slice_index


def _unpack_frame(ds: Dataset, frame_index: int) -> NDArray[np.bool_]:
    """Return the (row, column) voxels of one frame, which may start and end within a byte (PS3.5 8.1.1)."""
    n_pixels = ds.Rows * ds.Columns
    first_bit = frame_index * n_pixels
    first_byte, last_byte = first_bit // 8, (first_bit + n_pixels + 7) // 8
    octets = np.frombuffer(ds.PixelData, dtype=np.uint8)[first_byte:last_byte]
    bits = np.unpackbits(octets, bitorder="little")[first_bit - 8 * first_byte :][:n_pixels]
    return bits.reshape(ds.Rows, ds.Columns).view(np.bool_)

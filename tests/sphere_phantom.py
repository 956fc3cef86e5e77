"""A sphere of known place in patient space, sampled by the frames of a CT series that may lean or be uneven.

The voxels of a SEG are read back here by hand from its attributes (PS3.3 C.7.6.2.1.1), with none of the project's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.factories import AXIAL, SyntheticSeries, ct_series, series_affine

SPHERE_HU, AROUND_HU = 1000.0, -1000.0
BETWEEN_HU = 0.0


@dataclass(frozen=True)
class Sphere:
    """LPS mm."""

    centre_mm: NDArray[np.float64]
    radius_mm: float

    def holds(self, points_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points (..., 3) lie inside."""
        return np.asarray(((points_mm - self.centre_mm) ** 2).sum(axis=-1) < self.radius_mm**2)


def points_of(shape: Sequence[int], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(slice, row, column, 3) LPS of every voxel; the affine may be sheared."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def sphere_series(
    *,
    shape: tuple[int, int, int] = (24, 40, 44),
    spacing_mm: tuple[float, float, float] = (1.5, 1.1, 0.9),
    orientation: ArrayLike = AXIAL,
    tilt_deg: float = 0.0,
    radius_mm: float = 12.0,
    off_centre_mm: ArrayLike = (1.3, -2.1, 0.7),
    origin_mm: ArrayLike = (-50.0, -60.0, -700.0),
) -> tuple[SyntheticSeries, Sphere]:
    """A CT series that samples the sphere, and the sphere."""
    affine = series_affine(spacing_mm, orientation, origin_mm, tilt_deg)
    points = points_of(shape, affine)
    sphere = Sphere(points.reshape(-1, 3).mean(axis=0) + np.asarray(off_centre_mm), radius_mm)
    voxels = np.where(sphere.holds(points), SPHERE_HU, AROUND_HU).astype(np.float32)
    series = ct_series(
        shape[0],
        rows=shape[1],
        columns=shape[2],
        spacing_mm=spacing_mm,
        orientation=orientation,
        origin_mm=origin_mm,
        tilt_deg=tilt_deg,
        voxels_hu=voxels,
    )
    return series, sphere


def segment_points(part10: bytes, segment_number: int = 1) -> dict[str, NDArray[np.float64]]:
    """(voxel, 3) LPS of a segment's voxels, by the SOP Instance UID of the source of their frames."""
    ds = dcmread(BytesIO(part10))
    shared = ds.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    row_spacing, column_spacing = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    n_pixels = ds.Rows * ds.Columns
    points: dict[str, list[NDArray[np.float64]]] = {}
    for frame_index, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        if item.SegmentIdentificationSequence[0].ReferencedSegmentNumber != segment_number:
            continue
        pixels = bits[frame_index * n_pixels : (frame_index + 1) * n_pixels].reshape(ds.Rows, ds.Columns)
        rows, columns = np.nonzero(pixels)
        position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        points.setdefault(_key(source), []).append(
            position + np.outer(columns * column_spacing, cosines[:3]) + np.outer(rows * row_spacing, cosines[3:])
        )
    return {key: np.concatenate(of_frames) for key, of_frames in points.items()}


def _key(source: Dataset) -> str:
    number = source.get("ReferencedFrameNumber")
    return str(source.ReferencedSOPInstanceUID) + ("" if number is None else f"/{number}")


def true_points(instances: Sequence[Dataset], sphere: Sphere) -> dict[str, NDArray[np.float64]]:
    """What ``segment_points`` should give: the voxels of each source instance that lie in the sphere."""
    expected = {}
    for ds in instances:
        cosines = np.array(ds.ImageOrientationPatient, dtype=float)
        affine = np.eye(4)
        affine[:3, 1] = cosines[3:] * float(ds.PixelSpacing[0])
        affine[:3, 2] = cosines[:3] * float(ds.PixelSpacing[1])
        affine[:3, 3] = [float(v) for v in ds.ImagePositionPatient]
        points = points_of((1, ds.Rows, ds.Columns), affine)
        inside = points[sphere.holds(points)]
        if len(inside):
            expected[str(ds.SOPInstanceUID)] = inside
    return expected

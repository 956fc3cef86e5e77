"""The frames that a mask lies on: parallel and of one size, each at its own place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

# Distances between frames that differ by less than this share are one distance.
EVEN_FRACTION = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class FrameGrid:
    """Frames in ascending order along their normal, which need be neither straight nor even.

    A gantry tilt, a missing slice or changing distances are in the positions; ``hd.VolumeGeometry`` has no room for
    them.

    Attributes
    ----------
    positions_mm
        (frame, 3) LPS of the centre of each frame's first voxel.
    column_direction, row_direction
        Unit vectors along which the row index and the column index grow.
    spacing_mm
        Between rows, between columns.
    slice_thickness_mm
        Distance that most frames have to the next.
    """

    positions_mm: NDArray[np.float64]
    column_direction: NDArray[np.float64]
    row_direction: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    rows: int
    columns: int
    slice_thickness_mm: float
    frame_of_reference_uid: str | None

    @classmethod
    def from_geometry(cls, geometry: hd.VolumeGeometry) -> FrameGrid:
        """Frames of a volume, one for each slice."""
        n_slices, rows, columns = geometry.spatial_shape
        steps = np.arange(n_slices)[:, np.newaxis] * geometry.affine[:3, 0]
        row_spacing_mm, column_spacing_mm = (float(v) for v in geometry.pixel_spacing)
        return cls(
            positions_mm=np.asarray(geometry.affine[:3, 3] + steps, dtype=np.float64),
            column_direction=geometry.affine[:3, 1] / row_spacing_mm,
            row_direction=geometry.affine[:3, 2] / column_spacing_mm,
            spacing_mm=(row_spacing_mm, column_spacing_mm),
            rows=rows,
            columns=columns,
            slice_thickness_mm=float(geometry.spacing_between_slices),
            frame_of_reference_uid=geometry.frame_of_reference_uid,
        )

    @classmethod
    def at_positions(
        cls, positions_mm: NDArray[np.float64], geometry: hd.VolumeGeometry, rows: int, columns: int
    ) -> FrameGrid:
        """Frames at ``positions_mm`` that are parallel to the slices of ``geometry``, with pixels of the same size."""
        alike = cls.from_geometry(geometry)
        steps = np.abs(np.diff(positions_mm @ alike.normal))
        return replace(
            alike,
            positions_mm=positions_mm,
            rows=rows,
            columns=columns,
            slice_thickness_mm=float(np.median(steps)) if steps.size else alike.slice_thickness_mm,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frame, row, column) of a mask on these frames."""
        return len(self.positions_mm), self.rows, self.columns

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the frames."""
        return np.cross(self.row_direction, self.column_direction)

    @property
    def spacing_between_slices_mm(self) -> float | None:
        """The one distance between neighbouring frames, or ``None`` where it changes."""
        steps = np.abs(np.diff(self.positions_mm @ self.normal))
        if not steps.size:
            return self.slice_thickness_mm
        return float(np.mean(steps)) if np.ptp(steps) <= EVEN_FRACTION * np.median(steps) else None

"""Geometry of the frames of a mask: parallel, of the same size, each with its own position."""

from __future__ import annotations

from dataclasses import dataclass, replace

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

# Distances between frames count as equal if they differ by less than this share.
EVEN_FRACTION = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class FrameGrid:
    """Frames in ascending order along their normal, which may be sheared or unevenly spaced.

    The positions can express a gantry tilt, a missing slice or changing distances, which ``hd.VolumeGeometry`` cannot.

    Attributes
    ----------
    positions_mm
        (frame, 3) LPS coordinates of the centre of each frame's first voxel.
    column_direction, row_direction
        (3,) unit vectors along which the row index and the column index increase.
    spacing_mm
        Between rows, between columns.
    slice_thickness_mm
        Median distance between neighbouring frames.
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
        """Return the frames of a volume, one per slice."""
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
        """Return frames at ``positions_mm`` with the orientation and pixel spacing of ``geometry``."""
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
        """(3,) unit vector perpendicular to the frames."""
        return np.cross(self.row_direction, self.column_direction)

    @property
    def spacing_between_slices_mm(self) -> float | None:
        """Distance between neighbouring frames, or ``None`` if it varies."""
        steps = np.abs(np.diff(self.positions_mm @ self.normal))
        if not steps.size:
            return self.slice_thickness_mm
        return float(np.mean(steps)) if np.ptp(steps) <= EVEN_FRACTION * np.median(steps) else None

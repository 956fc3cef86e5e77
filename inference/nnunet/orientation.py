"""Reorient a volume to the orientation a network was trained on, and masks back, by axis swaps and flips only.

The axes of the canonical array point to head, posterior and left. This is SimpleITK's LPS, whose arrays have the axis
order z, y, x. An oblique volume is reoriented to the nearest such orientation and stays oblique.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

Directions = tuple[str, str, str]

CANONICAL: Directions = ("H", "P", "L")
RAS: Directions = ("H", "A", "R")  # models trained with one of nnU-Net's reorienting readers
OPPOSITE = {"H": "F", "F": "H", "A": "P", "P": "A", "L": "R", "R": "L"}


@dataclass(frozen=True, slots=True)
class Reorientation:
    """For each canonical axis, the source axis and whether it is reversed."""

    axes: tuple[int, int, int]
    is_flipped: tuple[bool, bool, bool]

    def to_canonical(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a 3D source-grid array with canonical axes."""
        return np.transpose(array, self.axes)[self._steps()]

    def to_source(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a 3D canonical array with the source's axes; the exact inverse of ``to_canonical``."""
        return np.transpose(array[self._steps()], np.argsort(self.axes))

    def spacing_mm(self, geometry: hd.VolumeGeometry) -> tuple[float, float, float]:
        """Return the spacing of a source grid along the canonical axes, in mm."""
        first, second, third = (float(geometry.spacing[axis]) for axis in self.axes)
        return first, second, third

    def _steps(self) -> tuple[slice, slice, slice]:
        first, second, third = (slice(None, None, -1 if flipped else 1) for flipped in self.is_flipped)
        return first, second, third


def reorientation_of(geometry: hd.VolumeGeometry, directions: Directions = CANONICAL) -> Reorientation:
    """Return the reorientation from a grid to the canonical orientation, or to ``directions``."""
    found = [direction.value for direction in geometry.get_closest_patient_orientation()]
    axes, flips = [], []
    for direction in directions:
        axis = next(index for index, value in enumerate(found) if value in (direction, OPPOSITE[direction]))
        axes.append(axis)
        flips.append(found[axis] != direction)
    return Reorientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

"""Prepared volumes: resampled, normalised, cropped to the body, and read patch by patch."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]


class PreparedVolume(Protocol):
    """A volume that patches are drawn from; axes are those of the plans, by default (slice, row, column).

    Attributes
    ----------
    id
        Name of the volume in its dataset.
    shape
        Number of voxels along each axis.
    air
        Normalised value of air, for what lies outside the volume.
    """

    id: str
    shape: Shape
    air: float

    def body_share(self, starts: NDArray[np.int64], size: Shape) -> NDArray[np.float64]:
        """Return the share of unaltered body in boxes of ``size`` at ``starts`` (n, 3), without reading them."""

    def read(self, start: Shape, size: Shape) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return image, body and altered area of a box; what lies outside the volume is air and not altered."""

"""Input and output of a simulated tool: a head with its position in the template, and the changed head with masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.atlas import BrainAtlas, sample_at

# Positions in the template's LPS mm, measured by eye in the pydeface template.
EYES_MM = np.array([[-32.0, -72.0, -22.0], [32.0, -72.0, -22.0]])
EARS_MM = np.array([[-76.0, -4.0, -42.0], [76.0, -4.0, -42.0]])
MOUTH_MM = np.array([0.0, -92.0, -82.0])
NASION_Z_MM = -14.0


@dataclass(frozen=True, eq=False)
class Scene:
    """A head before a tool touches it.

    Attributes
    ----------
    voxels
        (slice, row, column) float32 raw values in network orientation.
    spacing_mm
        Voxel size along (slice, row, column).
    body
        (slice, row, column) mask of the body as one solid.
    to_template
        (4, 4) array index to template LPS mm.
    is_ct
        Whether values are Hounsfield units, so that tools fill with those of air.
    """

    voxels: NDArray[np.float32]
    spacing_mm: NDArray[np.float64]
    body: NDArray[np.bool_]
    to_template: NDArray[np.float64]
    brain_atlas: BrainAtlas
    is_ct: bool = False

    @cached_property
    def template_mm(self) -> NDArray[np.float32]:
        """(3, slice, row, column) template coordinates x, y, z of every voxel in LPS mm."""
        grid = [np.arange(size, dtype=np.float32) for size in self.voxels.shape]
        matrix = self.to_template.astype(np.float32)
        coordinates = np.empty((3, *self.voxels.shape), np.float32)
        for row in range(3):
            along = [matrix[row, axis] * grid[axis] for axis in range(3)]
            coordinates[row] = (
                along[0][:, None, None] + along[1][None, :, None] + along[2][None, None, :] + matrix[row, 3]
            )
        return coordinates

    @cached_property
    def brain(self) -> NDArray[np.bool_]:
        """(slice, row, column) mask of the brain, from the atlas."""
        return sample_at(self.brain_atlas.probability, self.brain_atlas.affine, self.template_mm) > 0.5

    @cached_property
    def depth_mm(self) -> NDArray[np.float32]:
        """(slice, row, column) distance below the body's surface; zero outside."""
        return np.asarray(ndimage.distance_transform_edt(self.body, sampling=self.spacing_mm), dtype=np.float32)

    @cached_property
    def height_mm(self) -> NDArray[np.float32]:
        """(slice, row, column) distance above the body's surface; zero inside."""
        return np.asarray(ndimage.distance_transform_edt(~self.body, sampling=self.spacing_mm), dtype=np.float32)

    @cached_property
    def brain_distance_mm(self) -> NDArray[np.float32]:
        """(slice, row, column) distance from the brain; zero inside."""
        return np.asarray(ndimage.distance_transform_edt(~self.brain, sampling=self.spacing_mm), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A head after a tool; voxels outside ``removed | altered`` are unchanged.

    All arrays are (slice, row, column).

    Attributes
    ----------
    removed
        Voxels that were overwritten by a fill.
    altered
        Voxels that were blurred or replaced by another face.
    body
        The body after the tool: without removed tissue, with the new face.
    """

    voxels: NDArray[np.float32]
    removed: NDArray[np.bool_]
    altered: NDArray[np.bool_]
    body: NDArray[np.bool_]
    family: str

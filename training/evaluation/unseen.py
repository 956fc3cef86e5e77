"""Tools that no network was trained with: a published program, and a shape that no family has.

References
----------
N. Schimke and J. Hale, Quickshear defacing for neuroimages, USENIX HealthSec (2011).
"""

# nibabel's constructors have no types.
# mypy: allow-untyped-calls

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from training.defacing import Change, Scene
from training.defacing.scene import NASION_Z_MM

Mask = NDArray[np.bool_]
# The cylinder in template LPS mm: upright, around the front of the face.
CYLINDER_RADIUS_MM = 55.0
CYLINDER_FRONT_MM = -95.0
CYLINDER_Z_MM = (NASION_Z_MM - 110.0, NASION_Z_MM + 8.0)


def quickshear_package(scene: Scene) -> Mask:
    """Return the voxels that the ``quickshear`` program (PyPI, version 1.2) sets to zero, given the atlas's brain."""
    from quickshear import quickshear

    affine = np.diag([*scene.spacing_mm[::-1], 1.0])
    everywhere = nib.Nifti1Image(_to_ras(np.ones(scene.voxels.shape, np.uint8)), affine)
    brain = nib.Nifti1Image(_to_ras(scene.brain.astype(np.uint8)), affine)
    with warnings.catch_warnings():  # cross products of 2D vectors
        warnings.simplefilter("ignore", DeprecationWarning)
        kept = quickshear(everywhere, brain)
    return np.asarray(_from_ras(np.asarray(kept.dataobj)) == 0)


def cylinder(scene: Scene) -> Mask:
    """Return an upright cylinder with straight ends over the front of the face."""
    x, y, z = scene.template_mm
    inside = x**2 + (y - CYLINDER_FRONT_MM) ** 2 < CYLINDER_RADIUS_MM**2
    near = scene.brain_distance_mm > 3.0
    return np.asarray(inside & near & (z > CYLINDER_Z_MM[0]) & (z < CYLINDER_Z_MM[1]))


UNSEEN: Mapping[str, Callable[[Scene], Mask]] = MappingProxyType(
    {"quickshear 1.2 (unseen)": quickshear_package, "cylinder (unseen)": cylinder}
)


def deface_unseen(scene: Scene, name: str) -> Change:
    """Set the voxels that the tool removes to zero, or to air in CT."""
    removed = UNSEEN[name](scene)
    value = np.float32(-1000.0 if scene.is_ct else 0.0)
    nothing = np.zeros(removed.shape, bool)
    return Change(np.where(removed, value, scene.voxels), removed, nothing, scene.body & ~removed, name)


def _to_ras(voxels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (slice, row, column) towards head, posterior, left to NIfTI's (right, anterior, superior)."""
    return voxels.transpose(2, 1, 0)[::-1, ::-1]


def _from_ras(voxels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return voxels[::-1, ::-1].transpose(2, 1, 0)

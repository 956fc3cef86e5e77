"""Tools that remove tissue. Every function returns the mask (slice, row, column) of the removed voxels.

Positions are in the template's LPS mm; the references are in ``training.defacing``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from training.atlas import load_template, sample_at
from training.defacing.scene import EARS_MM, EYES_MM, MOUTH_MM, NASION_Z_MM, Scene

Mask = NDArray[np.bool_]
TEMPLATE_OUTSIDE = -1.0


def pydeface(scene: Scene, rng: np.random.Generator) -> Mask:
    """Remove the template's face mask, registered with an error, and mostly also voxels outside its grid (the neck)."""
    template = load_template()
    places = misregister(scene.template_mm, rng)
    keep = sample_at(template.keep, template.head.affine, places, outside=TEMPLATE_OUTSIDE)
    if rng.random() < 0.65:
        return keep < 0.5
    return (keep < 0.5) & (keep > TEMPLATE_OUTSIDE / 2)


def quickshear(scene: Scene, rng: np.random.Generator) -> Mask:
    """Remove everything beyond a plane in front of and below the brain's convex hull (Schimke and Hale, 2011)."""
    _, y, z = misregister(scene.template_mm, rng, shift_mm=2.0)
    brain = np.argwhere(scene.brain_atlas.probability > 0.5)
    places = brain @ scene.brain_atlas.affine[:3, :3].T + scene.brain_atlas.affine[:3, 3]
    hull = places[:, 1:][ConvexHull(places[:, 1:]).vertices]
    angle = np.deg2rad(rng.uniform(22.0, 62.0))  # of the normal, downwards from straight ahead
    normal = np.array([-np.cos(angle), -np.sin(angle)])
    offset = float((hull @ normal).max()) + rng.uniform(4.0, 14.0)
    return np.asarray(normal[0] * y + normal[1] * z > offset)


def mri_deface(scene: Scene, rng: np.random.Generator) -> Mask:
    """Remove the lower front away from the brain, with a ragged inner edge (Bischoff-Grethe et al., 2007)."""
    zone = face_zone(scene, rng)
    ragged = smooth_noise(scene, rng, scale_mm=rng.uniform(3.0, 9.0)) * rng.uniform(1.0, 6.0)
    far = scene.brain_distance_mm + ragged > rng.uniform(6.0, 22.0)
    deep = scene.depth_mm + 0.5 * ragged < rng.uniform(15.0, 60.0)
    removed = zone & far & deep
    if rng.random() < 0.5:
        removed &= scene.height_mm < rng.uniform(2.0, 30.0)
    return removed


def shell(scene: Scene, rng: np.random.Generator) -> Mask:
    """Remove a layer of skin over the face and often the ears, as mideface and AFNI's deface do."""
    zone = face_zone(scene, rng)
    if rng.random() < 0.7:
        zone |= _near(scene, EARS_MM, rng.uniform(20.0, 32.0))
    inward, outward = rng.uniform(3.0, 14.0), rng.uniform(2.0, 20.0)
    wave = smooth_noise(scene, rng, scale_mm=15.0) * rng.uniform(0.0, 2.0)
    return zone & (scene.depth_mm + wave < inward) & (scene.height_mm < outward)


def fsl_deface(scene: Scene, rng: np.random.Generator) -> Mask:
    """Remove a rounded region over the face, and often both ears (Alfaro-Almagro et al., 2018)."""
    x, y, z = misregister(scene.template_mm, rng)
    centre_y, centre_z = -88.0 + rng.uniform(-8, 8), -62.0 + rng.uniform(-8, 8)
    radii = np.array([62.0, 44.0, 52.0]) * rng.uniform(0.85, 1.25, 3)
    removed: Mask = (x / radii[0]) ** 2 + ((y - centre_y) / radii[1]) ** 2 + ((z - centre_z) / radii[2]) ** 2 < 1
    removed |= (y < centre_y) & (np.abs(x) < radii[0]) & (np.abs(z - centre_z) < radii[2])
    removed &= scene.brain_distance_mm > rng.uniform(3.0, 8.0)
    if rng.random() < 0.85:
        removed |= _near(scene, EARS_MM, rng.uniform(18.0, 30.0)) & (scene.brain_distance_mm > 5.0)
    return np.asarray(removed)


def box(scene: Scene, rng: np.random.Generator) -> Mask:
    """Cut along the scan's axes: a corner box, a coronal slab, an axial slab, or a box over the face."""
    x, _, z = scene.template_mm
    kind = rng.choice(["corner", "coronal", "axial", "face"], p=[0.4, 0.25, 0.15, 0.2])
    front = _first_plane(scene, rng.uniform(-78.0, -42.0), axis=1)
    below = _first_plane(scene, NASION_Z_MM + rng.uniform(-45.0, 12.0), axis=0)
    slices, rows, _ = np.ogrid[tuple(slice(size) for size in scene.voxels.shape)]
    if kind == "coronal":
        return np.broadcast_to(rows < front, scene.voxels.shape).copy()
    if kind == "axial":
        return np.broadcast_to(
            slices < _first_plane(scene, rng.uniform(-75.0, -45.0), axis=0), scene.voxels.shape
        ).copy()
    corner = (rows < front) & (slices < below)
    if kind == "face":
        width = rng.uniform(40.0, 70.0)
        bottom = NASION_Z_MM - rng.uniform(50.0, 110.0)
        return np.asarray(corner & (np.abs(x) < width) & (z > bottom))
    return np.broadcast_to(corner, scene.voxels.shape).copy()


def oblique(scene: Scene, rng: np.random.Generator) -> Mask:
    """Cut along an oblique plane from the brow to behind the chin, turned a little to one side."""
    x, y, z = scene.template_mm
    top = np.array([0.0, rng.uniform(-105.0, -70.0), NASION_Z_MM + rng.uniform(-15.0, 25.0)])
    angle = np.deg2rad(rng.uniform(10.0, 60.0))
    normal = np.array([rng.normal(0, 0.08), -np.cos(angle), -np.sin(angle)])
    far = normal[0] * x + normal[1] * y + normal[2] * z - normal @ top > rng.uniform(0.0, 15.0)
    return np.asarray(far & (scene.brain_distance_mm > 4.0)) if rng.random() < 0.5 else np.asarray(far)


def eyes(scene: Scene, rng: np.random.Generator) -> Mask:
    """Remove spheres over both eyes, sometimes also over the mouth."""
    places = np.vstack([EYES_MM, MOUTH_MM]) if rng.random() < 0.35 else EYES_MM
    return _near(scene, places + rng.normal(0, 3, places.shape), rng.uniform(13.0, 22.0))


def face_zone(scene: Scene, rng: np.random.Generator) -> Mask:
    """Return the front of the head below the brow, with random limits and a slanted back."""
    x, y, z = misregister(scene.template_mm, rng)
    back, slant = rng.uniform(-72.0, -38.0), rng.uniform(-0.5, 0.35)
    top, bottom = NASION_Z_MM + rng.uniform(-12.0, 45.0), rng.uniform(-190.0, -110.0)
    return np.asarray(
        (y < back + slant * (z + 60.0)) & (z < top) & (z > bottom) & (np.abs(x) < rng.uniform(62.0, 95.0))
    )


def misregister(
    places_mm: NDArray[np.float32], rng: np.random.Generator, *, shift_mm: float = 4.0
) -> NDArray[np.float32]:
    """Return template coordinates (3, slice, row, column) with the error of an imperfect registration."""
    matrix = np.eye(3) + rng.normal(0, 0.025, (3, 3))
    shift = rng.normal(0, shift_mm, 3)
    return np.asarray(
        np.tensordot(matrix.astype(np.float32), places_mm, axes=1) + shift.astype(np.float32).reshape(3, 1, 1, 1)
    )


def smooth_noise(scene: Scene, rng: np.random.Generator, *, scale_mm: float) -> NDArray[np.float32]:
    """Return a random field (slice, row, column) of about unit deviation that varies over ``scale_mm``."""
    shape = np.maximum(np.array(scene.voxels.shape) * scene.spacing_mm / scale_mm, 2).astype(int)
    coarse = rng.normal(0, 1, shape).astype(np.float32)
    zoom = np.array(scene.voxels.shape) / shape
    return np.asarray(ndimage.zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True))


def _near(scene: Scene, places_mm: NDArray[np.float64], radius_mm: float) -> Mask:
    squared = [
        sum((scene.template_mm[axis] - place[axis]) ** 2 for axis in range(3)) for place in places_mm.astype(np.float32)
    ]
    return np.asarray(np.minimum.reduce(squared) < radius_mm**2)


def _first_plane(scene: Scene, template_mm: float, *, axis: int) -> int:
    """Return the index along ``axis`` (0 slice, 1 row) at which the scan's middle reaches a template coordinate."""
    middle = [size // 2 for size in scene.voxels.shape]
    line = tuple(slice(None) if other == axis else middle[other] for other in range(3))
    along = scene.template_mm[2 if axis == 0 else 1][line]
    return int(np.searchsorted(along, template_mm))

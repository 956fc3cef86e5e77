"""Simulated tools for the judge, as close to the published ones as their descriptions allow.

Compared with ``training.defacing``, they add details that a network can see in single voxels: how the inserted face was
interpolated, whether its brightness and noise were matched, whether its edge is a seam, and what is written to the air
inside a mask that is fixed in template space. Every function returns the changed head with exact masks.

References
----------
C. G. Schwarz et al., NeuroImage 231 (2021), mri_reface. R. W. Cox, Computers and Biomedical Research 29 (1996), AFNI.
SPM's ``spm_deface`` and FieldTrip's ``ft_defacevolume`` for the half space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.defacing import Change, Scene
from training.defacing.cuts import face_zone, misregister, pydeface, smooth_noise
from training.defacing.scene import EARS_MM, NASION_Z_MM

Mask = NDArray[np.bool_]
Voxels = NDArray[np.float32]
TEMPLATE_MM = (1.0, 2.0)  # voxel size of templates of faces
# The half space that SPM's and FieldTrip's defacing removes, in MNI mm with y towards anterior.
HALF_SPACE = (-1.1, 0.98, 100.0)
MNI_SHIFT_MM = (13.0, 10.0)  # of y (anterior) and z from the pydeface template to MNI, from the positions of the eyes


def other_face(scene: Scene, rng: np.random.Generator, donors: Sequence[Scene]) -> Change:
    """Insert another head's face, with random interpolation, with or without matched noise."""
    voxels, share = bring_in(donors[0], scene, rng)
    where = _face_part(scene, rng)
    return _put(scene, where, voxels, share > 0.5, rng, family="reface")


def mean_face(scene: Scene, rng: np.random.Generator, donors: Sequence[Scene]) -> Change:
    """Insert the mean of several faces, mapped smoothly to this head, often with its noise, as mri_reface does."""
    brought = [bring_in(donor, scene, rng, is_smooth=True) for donor in donors]
    voxels = np.mean([values for values, _ in brought], axis=0, dtype=np.float32)
    share = np.mean([part for _, part in brought], axis=0, dtype=np.float32)
    if rng.random() < 0.7:
        voxels = ndimage.gaussian_filter(voxels, rng.uniform(0.4, 1.6) / scene.spacing_mm).astype(np.float32)
    return _put(scene, _face_part(scene, rng), voxels, share > 0.5, rng, family="average face")


def template_face(scene: Scene, rng: np.random.Generator, donors: Sequence[Scene]) -> Change:
    """Write a fixed face shell over this face by nearest-neighbour interpolation, as afni_refacer does.

    The shell has one shape in template space. Its face is written where it has a face, zero where it has air; voxels
    outside the shell are unchanged.
    """
    step = rng.uniform(*TEMPLATE_MM)
    places = misregister(scene.template_mm, rng, shift_mm=3.0)
    snapped = np.round(places / step) * np.float32(step)  # nearest neighbour from the template's grid
    brought = [_sampled(donor, snapped, order=1) for donor in donors]
    levels = [_levels(values, share > 0.5) for values, share in brought]
    unit = [(values - low) / max(high - low, 1e-6) for (values, _), (low, high) in zip(brought, levels, strict=True)]
    voxels = np.mean(unit, axis=0, dtype=np.float32)
    share = np.mean([part for _, part in brought], axis=0, dtype=np.float32)
    if len(donors) == 1 and rng.random() < 0.6:  # templates are smooth
        voxels = ndimage.gaussian_filter(voxels, rng.uniform(0.5, 1.2) / scene.spacing_mm).astype(np.float32)
    low, high = _levels(scene.voxels, scene.body)
    if rng.random() < 0.5:
        low = 0.0  # the template's air is zero
    brightness = 1.0 if rng.random() < 0.5 else rng.uniform(0.5, 2.2)
    voxels = voxels * np.float32((high - low) * brightness) + np.float32(low)
    is_face = share > 0.5
    depth_mm = ndimage.distance_transform_edt(is_face, sampling=scene.spacing_mm)
    height_mm = ndimage.distance_transform_edt(~is_face, sampling=scene.spacing_mm)
    zone = face_zone(scene, rng) & (scene.brain_distance_mm > 4.0)
    if rng.random() < 0.4:
        zone |= _near_ears(scene, rng.uniform(20.0, 34.0))
    where = zone & (depth_mm < rng.uniform(6.0, 30.0)) & (height_mm < rng.uniform(6.0, 35.0))
    written = np.where(is_face, voxels, np.float32(0.0 if not scene.is_ct else -1000.0))
    return _put(scene, where, written, is_face, rng, family="reface", match_noise=0.25)


def half_space(scene: Scene, rng: np.random.Generator, _: Sequence[Scene] = ()) -> Change:
    """Remove SPM's and FieldTrip's half space, which they set to NaN; stored as integers this is zero."""
    _, y, z = misregister(scene.template_mm, rng, shift_mm=2.0)
    slope_y, slope_z, offset = HALF_SPACE
    removed = slope_y * (-y + MNI_SHIFT_MM[0]) + slope_z * (z + MNI_SHIFT_MM[1]) + offset < 0
    return _cut(scene, np.asarray(removed), np.zeros((), np.float32), "half space")


def block_face(scene: Scene, rng: np.random.Generator, _: Sequence[Scene] = ()) -> Change:
    """Replace the inside of pydeface's mask by coarse blocks instead of zeros."""
    where = pydeface(scene, rng)
    size = np.maximum((rng.uniform(5.0, 16.0) / scene.spacing_mm).astype(int), 2)
    means = ndimage.uniform_filter(scene.voxels, size)
    corners = [
        np.minimum(np.arange(n) // step * step + step // 2, n - 1) for n, step in zip(means.shape, size, strict=True)
    ]
    voxels = np.where(where, means[np.ix_(*corners)], scene.voxels).astype(np.float32)
    return Change(voxels, np.zeros(where.shape, bool), where, scene.body, "blur")


def face_teeth_ears(scene: Scene, rng: np.random.Generator, _: Sequence[Scene] = ()) -> Change:
    """Set face, teeth and ears to zero by one mask that is fixed in template space and always has the same shape."""
    x, y, z = misregister(scene.template_mm, rng, shift_mm=3.0)
    face = (np.abs(x) < 66) & (y < -62 - 0.25 * (z + 40)) & (z < NASION_Z_MM - 2) & (z > -130) & (y > -135)
    teeth = (np.abs(x) < 34) & (y < -52) & (z < -62) & (z > -105) & (y > -135)
    ears = _near_ears(scene, 24.0) & (np.abs(x) > 62)
    return _cut(scene, (face | teeth | ears) & (scene.brain_distance_mm > 3.0), _fill_of(scene, rng), "mridefacer")


TOOLS: MappingProxyType[str, Callable[[Scene, np.random.Generator, Sequence[Scene]], Change]] = MappingProxyType(
    {
        "other face": other_face,
        "mean face": mean_face,
        "template face": template_face,
        "half space": half_space,
        "block face": block_face,
        "mridefacer": face_teeth_ears,
    }
)
WITH_DONORS = ("other face", "mean face", "template face")


def bring_in(donor: Scene, scene: Scene, rng: np.random.Generator, *, is_smooth: bool = False) -> tuple[Voxels, Voxels]:
    """Return a donor's values and body share on the scene's grid, scaled to the scene's air and tissue."""
    places = misregister(scene.template_mm, rng, shift_mm=3.0)
    if is_smooth:  # a registration that is not affine
        bend = np.stack([smooth_noise(scene, rng, scale_mm=45.0) * rng.uniform(0.0, 3.0) for _ in range(3)])
        places = places + bend.astype(np.float32)
    order = 1 if is_smooth else int(rng.choice([0, 1, 3], p=[0.35, 0.4, 0.25]))
    voxels, share = _sampled(donor, places, order=order)
    if scene.is_ct:
        return voxels, share
    low, high = _levels(voxels, share > 0.5)
    air, tissue = _levels(scene.voxels, scene.body)
    factor = 1.0 if rng.random() < 0.7 else rng.uniform(0.6, 1.7)  # brightness matched or not
    return ((voxels - low) * np.float32(factor * (tissue - air) / max(high - low, 1e-6)) + np.float32(air)), share


def _sampled(donor: Scene, places_mm: Voxels, *, order: int) -> tuple[Voxels, Voxels]:
    """Return values and body share of a donor at template positions (3, ...); outside its grid there is no body."""
    inverse = np.linalg.inv(donor.to_template).astype(np.float32)
    indices = np.tensordot(inverse[:3, :3], places_mm, axes=1) + inverse[:3, 3].reshape(3, 1, 1, 1)
    voxels = ndimage.map_coordinates(donor.voxels, indices, order=order, mode="nearest", prefilter=order > 1)
    share = ndimage.map_coordinates(donor.body.astype(np.float32), indices, order=1, prefilter=False)
    return np.asarray(voxels, dtype=np.float32), np.asarray(share, dtype=np.float32)


def _face_part(scene: Scene, rng: np.random.Generator) -> Mask:
    """Draw the mask of a tool: the front of the head with a random depth and height, sometimes with the ears."""
    zone = face_zone(scene, rng)
    if rng.random() < 0.3:
        zone |= _near_ears(scene, rng.uniform(20.0, 34.0))
    ragged = smooth_noise(scene, rng, scale_mm=20.0) * rng.uniform(0.0, 2.0)
    inward, outward = rng.uniform(8.0, 34.0), rng.uniform(4.0, 30.0)
    return zone & (scene.brain_distance_mm > 5.0) & (scene.depth_mm + ragged < inward) & (scene.height_mm < outward)


def _put(
    scene: Scene,
    where: Mask,
    values: Voxels,
    is_face: Mask,
    rng: np.random.Generator,
    *,
    family: str,
    match_noise: float = 0.5,
) -> Change:
    """Write a face into a scene, with or without noise matched to the scan, with a hard or a blended edge."""
    written = values
    if rng.random() < match_noise:
        written = _with_noise_of(scene, written, where, rng)
    if rng.random() < 0.5:
        weight = ndimage.gaussian_filter(where.astype(np.float32), rng.uniform(0.5, 1.5))
        weight = np.where(where, weight, 0).astype(np.float32)  # blended inside the mask
        weight = np.minimum(weight * np.float32(1.6), 1)
        written = weight * written + (1 - weight) * scene.voxels
    voxels = np.where(where, written, scene.voxels).astype(np.float32)
    body = np.where(where, is_face, scene.body)
    return Change(voxels, np.zeros(where.shape, bool), where, body, family)


def _with_noise_of(scene: Scene, values: Voxels, where: Mask, rng: np.random.Generator) -> Voxels:
    """Return values with noise added up to about the scan's noise level."""
    wanted, own = (_noise_level(field, where & scene.body) for field in (scene.voxels, values))
    missing = np.sqrt(max(wanted**2 - own**2, 0.0)) * rng.uniform(0.7, 1.2)
    return (values + rng.normal(0, missing, values.shape).astype(np.float32)).astype(np.float32)


def _noise_level(voxels: Voxels, where: Mask) -> float:
    """Return the standard deviation of white noise with the same median absolute second difference along rows."""
    if not where.any():
        return 0.0
    second = np.zeros(voxels.shape, np.float32)
    second[:, :, 1:-1] = voxels[:, :, :-2] - 2 * voxels[:, :, 1:-1] + voxels[:, :, 2:]
    return float(np.median(np.abs(second[where]))) / (0.6745 * np.sqrt(6.0))


def _levels(voxels: Voxels, body: Mask) -> tuple[float, float]:
    """Return typical values of air and of tissue."""
    outside, inside = voxels[~body][::7], voxels[body][::7]
    return (
        float(np.median(outside)) if outside.size else 0.0,
        float(np.percentile(inside, 70)) if inside.size else 1.0,
    )


def _near_ears(scene: Scene, radius_mm: float) -> Mask:
    squared = [sum((scene.template_mm[axis] - np.float32(place[axis])) ** 2 for axis in range(3)) for place in EARS_MM]
    return np.asarray(np.minimum(*squared) < radius_mm**2)


def _fill_of(scene: Scene, rng: np.random.Generator) -> NDArray[np.float32]:
    if scene.is_ct:
        return np.asarray(rng.choice([-1000.0, -1024.0, 0.0]), np.float32)
    return np.asarray(0.0 if rng.random() < 0.85 else float(scene.voxels.min()), np.float32)


def _cut(scene: Scene, removed: Mask, value: NDArray[np.float32], family: str) -> Change:
    voxels = np.where(removed, value, scene.voxels).astype(np.float32)
    return Change(voxels, removed, np.zeros(removed.shape, bool), scene.body & ~removed, family)

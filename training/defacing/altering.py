"""Tools that replace a face: by a blurred or pixelated one, that of another head, or the average of several.

Every function returns new voxels, the mask of changed voxels and the new body, all (slice, row, column).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.atlas import sample_at
from training.defacing.cuts import face_zone
from training.defacing.scene import Scene

Altered = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]  # voxels, mask, body after it


def blur(scene: Scene, rng: np.random.Generator) -> Altered:
    """Smooth the face's surface until no feature is left, or replace it by coarse blocks."""
    zone = face_zone(scene, rng)
    where = zone & (scene.depth_mm < rng.uniform(8.0, 25.0)) & (scene.height_mm < rng.uniform(4.0, 12.0))
    size_mm = rng.uniform(3.0, 9.0)
    if rng.random() < 0.7:
        changed = ndimage.gaussian_filter(scene.voxels, 0.6 * size_mm / scene.spacing_mm)
    else:
        blocks = np.maximum((1.5 * size_mm / scene.spacing_mm).astype(int), 2)
        coarse = ndimage.uniform_filter(scene.voxels, blocks)
        corners = [np.minimum(np.arange(n) // b * b + b // 2, n - 1) for n, b in zip(coarse.shape, blocks, strict=True)]
        changed = coarse[np.ix_(*corners)]
    return np.where(where, changed, scene.voxels).astype(np.float32), where, scene.body


def reface(scene: Scene, rng: np.random.Generator, donor: Scene) -> Altered:
    """Insert the face of another head, aligned through the template and scaled to this head's intensities."""
    zone = face_zone(scene, rng) & (scene.brain_distance_mm > 5.0)
    inward, outward = rng.uniform(8.0, 30.0), rng.uniform(12.0, 30.0)
    where = zone & (scene.depth_mm < inward) & (scene.height_mm < outward)
    own = _levels(scene.voxels, scene.body)
    face, face_share = _brought_in(donor, scene, own)
    face_body = face_share > 0.5
    if rng.random() < 0.5:
        face = ndimage.gaussian_filter(face, rng.uniform(0.4, 1.5) / scene.spacing_mm)
    if rng.random() < 0.5:
        where &= face_body | scene.body
    if rng.random() < 0.4:
        noise = rng.normal(0, rng.uniform(0, 0.04) * (own[1] - own[0]), face.shape)
        face = face + noise.astype(np.float32)
    body = np.where(where, face_body, scene.body)
    return np.where(where, face, scene.voxels).astype(np.float32), where, body


def average_face(scene: Scene, rng: np.random.Generator, donors: Sequence[Scene]) -> Altered:
    """Insert the mean of several heads' faces, as afni_refacer and mri_reface do with the one they ship."""
    zone = face_zone(scene, rng) & (scene.brain_distance_mm > 5.0)
    inward, outward = rng.uniform(8.0, 30.0), rng.uniform(12.0, 30.0)
    where = zone & (scene.depth_mm < inward) & (scene.height_mm < outward)
    own = _levels(scene.voxels, scene.body)
    face, share = np.zeros(scene.voxels.shape, np.float32), np.zeros(scene.voxels.shape, np.float32)
    for donor in donors:
        voxels, body = _brought_in(donor, scene, own)
        face += voxels / len(donors)
        share += body / len(donors)
    face = ndimage.gaussian_filter(face, rng.uniform(0.8, 2.0) / scene.spacing_mm)
    return np.where(where, face, scene.voxels).astype(np.float32), where, np.where(where, share > 0.5, scene.body)


def _brought_in(
    donor: Scene, scene: Scene, levels: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a donor's voxels and body share on the scene's grid; MR is scaled to the scene's air and tissue."""
    voxels: NDArray[np.float32] = sample_at(donor.voxels, donor.to_template, scene.template_mm)
    share: NDArray[np.float32] = sample_at(donor.body.astype(np.float32), donor.to_template, scene.template_mm)
    if not scene.is_ct:
        low, high = _levels(voxels, share > 0.5)
        voxels = (voxels - low) * ((levels[1] - levels[0]) / max(high - low, 1e-6)) + levels[0]
    return voxels, share


def _levels(voxels: NDArray[np.float32], body: NDArray[np.bool_]) -> tuple[float, float]:
    """Return typical values of air and of tissue."""
    outside = voxels[~body]
    inside = voxels[body]
    return (
        float(np.median(outside)) if outside.size else 0.0,
        float(np.percentile(inside, 70)) if inside.size else 1.0,
    )

"""Simulate effects of scanners and exports that resemble a tool, in addition to ``training.conditions``.

Every function returns a changed scene on the same grid, so that its geometry stays valid, unless it says otherwise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from training import conditions
from training.defacing import Scene
from training.defacing.cuts import smooth_noise
from training.judge.heads import with_geometry

MASK_GAP_MM = (0.5, 7.0)  # between the face and a thermoplastic mask


def vary(scene: Scene, rng: np.random.Generator, *, is_map: bool) -> Scene:
    """Apply a random selection of changes that keep the grid; about half of the real scans stay unchanged."""
    like = scene
    if scene.is_ct:
        scene = vary_ct(scene, rng)
    elif rng.random() < (0.3 if is_map else 0.35):
        scene = conditions.vary_intensity(scene, rng)
    if not scene.is_ct:
        for share, change in ((0.08, dark_neck), (0.07, ghosts), (0.05, low_field), (0.2, conditions.fall_off)):
            if rng.random() < share:
                scene = change(with_geometry(scene, like), rng)
        if rng.random() < 0.24:
            scene = conditions.add_voids(with_geometry(scene, like), rng)
    if rng.random() < 0.35:
        scene = zero_air(with_geometry(scene, like), rng)
    return with_geometry(scene, like)


def zero_air(scene: Scene, rng: np.random.Generator) -> Scene:
    """Set air to one value, as in ``training.conditions`` or with specks of noise left and dark tissue lost."""
    if rng.random() < 0.6:
        return conditions.zero_air(scene, rng)
    outside = scene.voxels[~scene.body][::11]
    level = float(np.quantile(outside, rng.uniform(0.3, 0.995))) if outside.size else 0.0
    value = np.float32(0.0 if not scene.is_ct else scene.voxels.min())
    return replace(scene, voxels=np.where(scene.voxels <= level, value, scene.voxels))


def dark_neck(scene: Scene, rng: np.random.Generator) -> Scene:
    """Replace the signal below the jaw, outside the coil's range, by noise, with a ragged upper edge."""
    z = scene.template_mm[2] + 0.35 * scene.template_mm[1]
    height = rng.uniform(-150.0, -85.0) + 6.0 * smooth_noise(scene, rng, scale_mm=25.0)
    profile = 1 / (1 + np.exp(-(z - height) / rng.uniform(3.0, 16.0)))
    profile = np.maximum(profile, rng.uniform(0.0, 0.15))
    level = rng.uniform(0.005, 0.05) * float(np.percentile(scene.voxels[::2, ::2, ::2], 99))
    real, imaginary = rng.normal(0, level, (2, *scene.voxels.shape))
    return replace(scene, voxels=np.hypot(scene.voxels * profile + real, imaginary).astype(np.float32))


def ghosts(scene: Scene, rng: np.random.Generator) -> Scene:
    """Add faint shifted copies of the head along the phase axis, as caused by motion and pulsation."""
    axis = int(rng.choice(3, p=[0.2, 0.5, 0.3]))
    size = scene.voxels.shape[axis]
    total = np.zeros(scene.voxels.shape, np.float32)
    for _ in range(rng.integers(1, 4)):
        shift = int(rng.integers(size // 8, size - size // 8))
        copy = np.roll(scene.voxels, shift, axis)
        if rng.random() < 0.5:
            copy = ndimage.gaussian_filter(copy, rng.uniform(0.3, 1.5))
        total += rng.uniform(0.02, 0.14) * copy
    if rng.random() < 0.5:
        total *= np.clip(1 + 0.6 * smooth_noise(scene, rng, scale_mm=40.0), 0, 2)
    return replace(scene, voxels=(scene.voxels + total).astype(np.float32))


def low_field(scene: Scene, rng: np.random.Generator) -> Scene:
    """Blur the image and add noise by cropping k-space, as in zero-filled low-field MR; all of it becomes smooth."""
    voxels = scene.voxels
    share = rng.uniform(0.4, 0.8)
    spectrum = np.fft.fftshift(np.fft.fftn(voxels))
    level = rng.uniform(0.01, 0.06) * float(np.percentile(voxels[::2, ::2, ::2], 99))
    scale = level * np.sqrt(voxels.size)
    spectrum = spectrum + rng.normal(0, scale, voxels.shape) + 1j * rng.normal(0, scale, voxels.shape)
    axes = rng.permutation(3)[: rng.integers(1, 4)]
    for axis in axes:
        size = voxels.shape[axis]
        place = np.abs(np.arange(size) - size // 2) < max(4, share * size / 2)
        spectrum *= place.reshape([-1 if other == axis else 1 for other in range(3)])
    return replace(scene, voxels=np.abs(np.fft.ifftn(np.fft.ifftshift(spectrum))).astype(np.float32))


def vary_ct(scene: Scene, rng: np.random.Generator) -> Scene:
    """Change a CT: soft or sharp kernel with its noise, face mask, head rest, round field of view, clipped values."""
    voxels = scene.voxels.copy()
    if rng.random() < 0.3:
        _add_face_mask(voxels, scene, rng)
    if rng.random() < 0.3:
        _add_head_rest(voxels, scene, rng)
    draw = rng.random()
    if draw < 0.35:  # a soft kernel: noise is correlated
        noise = ndimage.gaussian_filter(rng.normal(0, 1, voxels.shape), rng.uniform(0.5, 1.2)).astype(np.float32)
        voxels = ndimage.gaussian_filter(voxels, rng.uniform(0.3, 0.9))
        voxels += noise / max(float(noise.std()), 1e-6) * np.float32(rng.uniform(2.0, 15.0))
    elif draw < 0.6:  # a sharp one
        voxels += np.float32(rng.uniform(0.5, 1.5)) * (voxels - ndimage.gaussian_filter(voxels, rng.uniform(0.6, 1.0)))
        voxels += rng.normal(0, rng.uniform(10.0, 60.0), voxels.shape).astype(np.float32)
    if rng.random() < 0.7:
        voxels = np.maximum(voxels, np.float32(rng.choice([-1024.0, -1000.0])))
    scene = replace(scene, voxels=np.round(voxels).astype(np.float32))
    if rng.random() < 0.5:
        scene = with_geometry(conditions.vary_intensity(scene, rng), scene)
    return _round_view(scene, rng) if rng.random() < 0.2 else scene


def regrid(scene: Scene, rng: np.random.Generator) -> Scene:
    """Crop, pad or cut a thin slab; the grid and the geometry change."""
    if rng.random() < 0.12:
        scene = conditions.crop(scene, rng)
    if rng.random() < 0.1:
        scene = conditions.pad(scene, rng)
    if rng.random() < 0.05:
        scene = conditions.thin_slab(scene, rng)
    return scene


def _add_face_mask(voxels: np.ndarray, scene: Scene, rng: np.random.Generator) -> None:  # type: ignore[type-arg]
    """Add a thermoplastic mask in place: a thin shell, often with holes, at a small distance from face and head."""
    gap, thickness = rng.uniform(*MASK_GAP_MM), rng.uniform(1.5, 3.5)
    wave = smooth_noise(scene, rng, scale_mm=30.0) * rng.uniform(0.0, 2.0)
    height = scene.height_mm + wave
    shell = (height > gap) & (height < gap + thickness) & (scene.template_mm[1] < rng.uniform(-40.0, 30.0))
    if rng.random() < 0.6:  # a net
        x, _, z = scene.template_mm
        pitch, width = rng.uniform(6.0, 12.0), rng.uniform(0.3, 0.6)
        shell &= ((x / pitch) % 1.0 < width) | ((z / pitch) % 1.0 < width)
    voxels[shell & ~scene.body] = rng.uniform(-400.0, 150.0)


def _add_head_rest(voxels: np.ndarray, scene: Scene, rng: np.random.Generator) -> None:  # type: ignore[type-arg]
    """Add a cushion or shell in place that fits the back of the head and sometimes its sides."""
    back = scene.template_mm[1] > rng.uniform(-30.0, 40.0)
    height = scene.height_mm + smooth_noise(scene, rng, scale_mm=40.0) * 2
    cushion = back & (height > rng.uniform(0.5, 4.0)) & (height < rng.uniform(10.0, 35.0)) & ~scene.body
    voxels[cushion] = rng.uniform(-985.0, -750.0) + rng.normal(0, 8, int(cushion.sum())).astype(np.float32)


def _round_view(scene: Scene, rng: np.random.Generator) -> Scene:
    """Set voxels outside the reconstructed circle of a CT to one padding value."""
    height, width = scene.voxels.shape[1:]
    rows, columns = np.ogrid[:height, :width]
    outside = ((rows / height - 0.5) ** 2 + (columns / width - 0.5) ** 2) > rng.uniform(0.21, 0.27)
    outside = np.broadcast_to(outside, scene.voxels.shape) & ~scene.body
    value = np.float32(rng.choice([-3024.0, -2048.0, -1024.0, 0.0]))
    return replace(scene, voxels=np.where(outside, value, scene.voxels))

"""Simulate what scanners and software do to a volume without a tool: contrast, noise, voids, crops, padding.

These changes resemble anonymisation a little. They are also applied to a head before it is defaced, so that a pair of
samples differs only by the tool. Every function returns a new scene.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.defacing.cuts import smooth_noise
from training.defacing.scene import MOUTH_MM, Scene


def vary_intensity(scene: Scene, rng: np.random.Generator) -> Scene:
    """Change contrast curve, coil profile, blur, noise, unit and rounding; CT mostly keeps Hounsfield units."""
    voxels = scene.voxels
    if scene.is_ct:
        if rng.random() < 0.25:
            low, high = rng.choice([-1024.0, -1000.0, -500.0, -200.0]), rng.choice([300.0, 1500.0, 3071.0])
            voxels = np.clip(voxels, np.float32(low), np.float32(high))
        if rng.random() < 0.4:
            voxels = voxels + rng.normal(0, rng.uniform(3.0, 30.0), voxels.shape).astype(np.float32)
        voxels = np.round(voxels)
        if rng.random() < 0.12:
            voxels = (voxels + 1024.0) * rng.uniform(0.05, 1.0)  # as stored, without the rescale to HU
        return replace(scene, voxels=voxels.astype(np.float32))
    low, high = np.percentile(voxels[::2, ::2, ::2], [0.5, 99.5])
    unit = (voxels - low) / max(high - low, 1e-6)
    if rng.random() < 0.5:
        knots = np.cumsum(rng.uniform(0.1, 1.0, 5))
        curve = np.concatenate([[0.0], knots / knots[-1]])
        if rng.random() < 0.35:  # not monotone above air, as between T1 and T2
            curve[2:] = rng.uniform(0.2, 1.0, 4)
        unit = np.where(unit < 1.0, np.interp(unit, np.linspace(0, 1, 6), curve), unit * curve[-1])
    if rng.random() < 0.4:
        unit = unit * np.exp(rng.uniform(0.1, 0.5) * smooth_noise(scene, rng, scale_mm=rng.uniform(60.0, 120.0)))
    if rng.random() < 0.15:
        unit = ndimage.gaussian_filter(unit, rng.uniform(0.3, 0.9))
    if rng.random() < 0.6:
        noise = rng.uniform(0.003, 0.05)
        unit = np.hypot(unit + rng.normal(0, noise, unit.shape), rng.normal(0, noise, unit.shape))
    if rng.random() < 0.2:
        unit = np.minimum(unit, rng.uniform(0.6, 1.0))  # clipped
    scale = float(rng.choice([200.0, 255.0, 1000.0, 4095.0])) * rng.uniform(0.6, 1.0)
    voxels = unit * scale + (low if rng.random() < 0.1 else 0.0)
    if rng.random() < 0.75:
        voxels = np.round(voxels)
    return replace(scene, voxels=voxels.astype(np.float32))


def vary_condition(scene: Scene, rng: np.random.Generator) -> Scene:
    """Apply a random selection of: air zeroed by the scanner, signal voids, coil fall-off, zero padding."""
    if rng.random() < 0.3:
        scene = zero_air(scene, rng)
    if rng.random() < 0.2:
        scene = add_voids(scene, rng)
    if rng.random() < 0.15:
        scene = fall_off(scene, rng)
    if rng.random() < 0.2:
        scene = pad(scene, rng)
    return scene


def zero_air(scene: Scene, rng: np.random.Generator) -> Scene:
    """Set air to one value, as scanners and viewers do: below a threshold, or beyond a margin around the body."""
    value = float(scene.voxels.min()) if scene.is_ct or rng.random() < 0.1 else 0.0
    if rng.random() < 0.5:
        outside = scene.height_mm > rng.uniform(0.5, 12.0)
    else:
        inside = scene.voxels[scene.body]
        air = float(np.median(scene.voxels[~scene.body])) if not scene.body.all() else float(scene.voxels.min())
        tissue = float(np.median(inside)) if inside.size else 1.0
        outside = scene.voxels < air + rng.uniform(0.05, 0.25) * (tissue - air)  # holes inside the head too
    return replace(scene, voxels=np.where(outside, np.float32(value), scene.voxels))


def add_voids(scene: Scene, rng: np.random.Generator) -> Scene:
    """Add signal voids as caused by metal in MR, often with a bright rim, mostly around the teeth."""
    if scene.is_ct:
        return scene
    voxels = scene.voxels.copy()
    spread = smooth_noise(scene, rng, scale_mm=12.0)
    for _ in range(rng.integers(1, 4)):
        place = MOUTH_MM + rng.normal(0, [18.0, 12.0, 12.0])
        if rng.random() < 0.2:
            place = rng.uniform([-70.0, -80.0, -90.0], [70.0, 80.0, 60.0])
        radius = rng.uniform(6.0, 26.0) + 4.0 * spread
        squared = sum((scene.template_mm[axis] - np.float32(place[axis])) ** 2 for axis in range(3))
        ratio = np.sqrt(squared) / np.maximum(radius, 2.0)
        factor = 1.0 / (1.0 + np.exp((1.0 - ratio) * rng.uniform(6.0, 20.0)))
        voxels *= factor
        if rng.random() < 0.4:
            voxels *= 1.0 + 0.5 * np.exp(-(((ratio - 1.15) / 0.1) ** 2))
    noise = rng.uniform(0.002, 0.02) * float(np.percentile(voxels, 99))
    return replace(scene, voxels=np.abs(voxels + rng.normal(0, noise, voxels.shape)).astype(np.float32))


def fall_off(scene: Scene, rng: np.random.Generator) -> Scene:
    """Fade the signal towards one side, often the neck or the face, as outside the range of a coil."""
    if scene.is_ct:
        return scene
    direction = rng.normal(0, 1, 3) + np.array([0.0, -0.8, -1.5])
    direction /= np.linalg.norm(direction)
    along = np.tensordot(direction.astype(np.float32), scene.template_mm, axes=1)
    start, width = rng.uniform(55.0, 120.0), rng.uniform(10.0, 40.0)
    profile = 1.0 / (1.0 + np.exp((along - start) / width))
    return replace(scene, voxels=(scene.voxels * profile).astype(np.float32))


def pad(scene: Scene, rng: np.random.Generator) -> Scene:
    """Pad the volume with one value, usually zero; the body ends at the former edge."""
    widths = [tuple(int(width) for width in rng.integers(0, 12, 2)) for _ in range(3)]
    shift = np.eye(4)
    shift[:3, 3] = [-before for before, _ in widths]
    value = float(scene.voxels.min()) if rng.random() < 0.4 else 0.0
    return Scene(
        np.pad(scene.voxels, widths, constant_values=value),
        scene.spacing_mm,
        np.pad(scene.body, widths),
        scene.to_template @ shift,
        scene.brain_atlas,
        scene.is_ct,
    )


def crop(scene: Scene, rng: np.random.Generator) -> Scene:
    """Reduce the field of view: cut the face at the front or the lower edge, or a little at all sides."""
    low = np.zeros(3, int)
    high = np.array(scene.voxels.shape)
    kind = rng.choice(["front", "below", "both", "sides"], p=[0.2, 0.35, 0.15, 0.3])
    if kind in ("front", "both"):
        low[1] = int(rng.uniform(0.05, 0.3) * high[1])
    if kind in ("below", "both"):
        low[0] = int(rng.uniform(0.1, 0.55) * high[0])
    if kind == "sides":
        size = high.copy()
        low = (rng.uniform(0, 0.15, 3) * size).astype(int)
        high = size - (rng.uniform(0, 0.15, 3) * size).astype(int)
    return _cut_out(scene, tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)))


def thin_slab(scene: Scene, rng: np.random.Generator) -> Scene:
    """Keep a few centimetres along one axis, as in a stack of a few slices."""
    axis = int(rng.choice(3, p=[0.5, 0.25, 0.25]))
    size = scene.voxels.shape[axis]
    wanted = min(size, max(1, round(rng.uniform(4.0, 45.0) / float(scene.spacing_mm[axis]))))
    start = int(rng.integers(0, size - wanted + 1))
    window = tuple(slice(start, start + wanted) if other == axis else slice(None) for other in range(3))
    return _cut_out(scene, window)


def _cut_out(scene: Scene, window: tuple[slice, ...]) -> Scene:
    """Return the part of a scene in a window of the array."""
    shift = np.eye(4)
    shift[:3, 3] = [part.start or 0 for part in window]
    return Scene(
        np.ascontiguousarray(scene.voxels[window]),
        scene.spacing_mm,
        np.ascontiguousarray(scene.body[window]),
        scene.to_template @ shift,
        scene.brain_atlas,
        scene.is_ct,
    )


def strip_skull(scene: Scene, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Set all but the brain to zero, with a ragged edge; return voxels and remaining body, (slice, row, column)."""
    ragged = smooth_noise(scene, rng, scale_mm=8.0) * rng.uniform(0.5, 2.5)
    depth_mm = ndimage.distance_transform_edt(scene.brain, sampling=scene.spacing_mm)
    brain = scene.body & (scene.brain_distance_mm - depth_mm + ragged < rng.uniform(0.0, 6.0))
    return np.where(brain, scene.voxels, np.float32(0.0)), brain

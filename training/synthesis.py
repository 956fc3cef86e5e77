"""Render images from label maps: a head in a random MR contrast, or as CT with couch.

The maps use FreeSurfer's label numbers in the brain and SimNIBS's 5xx outside it (Apache-2.0). Every tissue group gets
a random intensity for MR, and random Hounsfield units for CT.

References
----------
B. Billot et al., SynthSeg: segmentation of brain MRI scans of any contrast and resolution without retraining, Medical
Image Analysis 86 (2023), on training with random contrasts. O. Puonti et al., Accurate and robust whole-head
segmentation from magnetic resonance images for individualized head modeling, NeuroImage 219 (2020), SimNIBS's labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.labels import fill_holes

GROUPS: tuple[tuple[int, ...], ...] = (
    (0,),
    (2, 7, 16, 28, 41, 46, 60, 62, 72, 85, 530),  # white matter, brain stem, optic nerve
    (3, 8, 10, 11, 12, 13, 17, 18, 26, 42, 47, 49, 50, 51, 52, 53, 54, 58, 136, 137, 163, 164),  # grey matter
    (4, 5, 14, 15, 24, 25, 30, 43, 44, 57, 512),  # cerebrospinal fluid, vessels, spinal canal
    (506,),  # eyes
    (507, 508),  # soft tissue
    (509,),  # mucosa
    (511,),  # skin
    (515,),  # cortical bone
    (516,),  # spongy bone
    (502, 514),  # vessels
)
CT_HU = (
    (-1000.0, 0.0),
    (25.0, 34.0),
    (34.0, 44.0),
    (4.0, 16.0),
    (5.0, 25.0),
    (-40.0, 70.0),
    (20.0, 60.0),
    (-60.0, 60.0),
    (700.0, 1700.0),
    (150.0, 700.0),
    (35.0, 250.0),
)
BRAIN_GROUPS = (1, 2, 3)
AIR, EYES, SOFT, SKIN, CORTICAL, SPONGY = 0, 4, 5, 7, 8, 9


def group_labels(labelmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert label numbers (slice, row, column) to tissue groups; unknown brain labels become white matter."""
    table = np.ones(1024, np.uint8)
    for group, numbers in enumerate(GROUPS):
        table[list(numbers)] = group
    return table[labelmap.astype(np.int32)]


def solid_body(groups: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the body of a grouped label map, including its air-filled cavities."""
    body = groups > 0
    body = ndimage.binary_closing(np.pad(body, 8, mode="edge"), iterations=6)[8:-8, 8:-8, 8:-8] | body
    body = ndimage.binary_erosion(body, iterations=3, border_value=1) | (groups > 0)
    return fill_holes(fill_holes(body), plane_axis=0)


def render_mr(groups: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Render an MR head (slice, row, column) with random contrast, texture and noise; air and bone are dark."""
    levels = rng.uniform(0.12, 1.0, len(GROUPS)).astype(np.float32)
    if rng.random() < 0.35:  # similar to T1: bright fat, brain brighter than water
        levels[[1, 2, 3, 5, 7, 9]] = [0.7, 0.5, 0.2, 0.45, 0.8, 0.7]
        levels *= rng.uniform(0.8, 1.2, len(GROUPS)).astype(np.float32)
    levels[AIR], levels[CORTICAL] = 0.0, rng.uniform(0.0, 0.15)
    values = levels[groups]
    texture = ndimage.gaussian_filter(rng.normal(0, 1, groups.shape).astype(np.float32), rng.uniform(0.5, 2.5))
    texture /= texture.std() + 1e-6
    values = values * (1 + rng.uniform(0.02, 0.2) * texture)
    values = ndimage.gaussian_filter(values, rng.uniform(0.3, 0.8))
    noise = rng.uniform(0.002, 0.06)
    real, imaginary = rng.normal(0, noise, (2, *groups.shape)).astype(np.float32)
    return np.asarray(np.hypot(values + real, imaginary) * 10.0 ** rng.uniform(1.5, 3.3), dtype=np.float32)


def render_ct(
    groups: NDArray[np.uint8], body: NDArray[np.bool_], spacing_mm: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Render a CT head (slice, row, column) in HU, often with couch or head holder, sometimes with dental metal."""
    bounds = np.array(CT_HU, np.float32)
    levels = rng.uniform(bounds[:, 0], bounds[:, 1]).astype(np.float32)
    levels[AIR] = -1000.0
    values = levels[groups]
    fat = ndimage.gaussian_filter(rng.normal(0, 1, groups.shape).astype(np.float32), 4.0 / spacing_mm)
    fat_share = rng.uniform(-0.5, 1.0)
    values[(groups == SOFT) & (fat > fat_share * fat.std())] = rng.uniform(-110.0, -70.0)
    values[(groups == SKIN) & (fat > 0)] += rng.uniform(-80.0, 0.0)
    if rng.random() < 0.75:
        _add_couch(values, body, spacing_mm, rng)
    if rng.random() < 0.15:
        _add_metal(values, body, rng)
    values = ndimage.gaussian_filter(values, rng.uniform(0.3, 0.8))
    values += rng.normal(0, rng.uniform(3.0, 35.0), values.shape).astype(np.float32)
    return np.asarray(np.maximum(values, -1024.0), dtype=np.float32)


def _add_couch(
    values: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Add a thin curved plate or a cup with foam behind the head in place, outside the body."""
    slices, rows, columns = np.indices(values.shape, dtype=np.float32)
    rows_mm, columns_mm = rows * spacing_mm[1], (columns - values.shape[2] / 2) * spacing_mm[2]
    occupied = np.nonzero(body.any(axis=(0, 2)))[0]
    back_mm = (occupied.max() if occupied.size else values.shape[1] * 0.8) * spacing_mm[1]
    gap, curvature = rng.uniform(-1.0, 14.0), rng.uniform(0.0, 0.006)
    depth = back_mm + gap - curvature * columns_mm**2
    if rng.random() < 0.5:  # a cup rises along the head's sides
        depth = np.maximum(depth, back_mm - rng.uniform(20.0, 70.0))
    thickness = rng.uniform(2.0, 7.0)
    distance = rows_mm - depth
    plate = (distance > 0) & (distance < thickness) & (np.abs(columns_mm) < rng.uniform(60.0, 140.0))
    foam = (distance >= thickness) & (distance < thickness + rng.uniform(5.0, 40.0))
    del slices
    values[foam & ~body] = rng.uniform(-980.0, -850.0)
    values[plate & ~body] = rng.uniform(-300.0, 250.0)


def _add_metal(values: NDArray[np.float32], body: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Add a few very dense voxels in place, with streaks in their slices."""
    inside = np.argwhere(body)
    if not inside.size:
        return
    low_front = inside[(inside[:, 0] < values.shape[0] * 0.4) & (inside[:, 1] < values.shape[1] * 0.4)]
    for place in rng.permutation(low_front)[: rng.integers(1, 5)]:
        z, y, x = place
        values[z : z + 2, y : y + 3, x : x + 3] = rng.uniform(2500.0, 3071.0)
        rows, columns = np.indices(values.shape[1:])
        angle = np.arctan2(rows - y, columns - x)
        streaks = np.sin(angle * rng.integers(4, 12) + rng.uniform(0, 6)) / (1 + np.hypot(rows - y, columns - x) / 12)
        values[max(0, z - 1) : z + 3] += (rng.uniform(100.0, 500.0) * streaks).astype(np.float32)

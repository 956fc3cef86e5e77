"""A volume through the judge: its region at native voxels, two rounds, probabilities on the source grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.judge.channels import View, judge_channels, with_appearance
from inference.judge.context import depth_in, resampled
from inference.judge.region import Window, find_landmarks, region_of
from inference.refine.grids import Field, Mask, Spacing

FINEST_MM = 0.9  # finer axes are read in strides, so that values stay exact
POOL = 8  # the network halves its input three times
HALO = 32  # planes; what is farther away does not reach a voxel
MAX_VOXELS, LEAST_PLANES = 6_000_000, 16  # that the network sees at once, for its memory; of a slab without its halo
SURE_OF_SOMETHING = 0.5  # of probability; below it everywhere there is no second round


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Probabilities (4, slice, row, column) of background, removed, smoothed and replaced in a window of the volume."""

    probabilities: Field
    window: Window

    @property
    def changed(self) -> Field:
        """Probability of any change."""
        return np.asarray(1 - self.probabilities[0], dtype=np.float32)


def strides_of(spacing_mm: Spacing) -> tuple[int, int, int]:
    """Every how many voxels are read along each axis."""
    first, second, third = (2 if step < FINEST_MM else 1 for step in spacing_mm)
    return first, second, third


def view_volume(voxels: Field, spacing_mm: Spacing, body: Mask, context: Field) -> View:
    """The judge's region of a volume on which every voxel is read.

    Parameters
    ----------
    voxels, body
        (slice, row, column) with axes towards head, posterior and left; the body as the 3 mm network found it.
    context
        (4, slice, row, column) probabilities of the 3 mm network over the same volume, on a grid of its own.
    """
    landmarks = find_landmarks(body, spacing_mm)
    window = region_of(voxels.shape, landmarks, spacing_mm)
    return View(
        np.ascontiguousarray(voxels[window]),
        depth_in(body, spacing_mm, window),
        resampled(context, voxels.shape, window),
        window,
        landmarks,
        spacing_mm,
    )


def judge_volume(
    voxels: Field, spacing_mm: Spacing, body: Mask, context: Field, network: nn.Module, *, n_rounds: int = 2
) -> Judgement:
    """Probabilities of a change in the judge's region, on the grid of ``voxels``.

    Parameters
    ----------
    n_rounds
        From the second on, values are compared with those where the round before had found something.
    """
    steps = strides_of(spacing_mm)
    places = tuple(slice(None, None, step) for step in steps)
    first, second, third = (mm * step for mm, step in zip(spacing_mm, steps, strict=True))
    view = view_volume(np.ascontiguousarray(voxels[places]), (first, second, third), body[places], context)
    channels = judge_channels(view)
    probabilities = predict(network, channels)
    for _ in range(1, n_rounds):
        found = 1 - probabilities[0]
        if float(found.max()) < SURE_OF_SOMETHING:
            break
        probabilities = predict(network, with_appearance(channels, view, found))
    return _on_source_grid(probabilities, view.window, steps, voxels.shape)


def _on_source_grid(
    probabilities: Field, window: Window, steps: tuple[int, int, int], shape: tuple[int, ...]
) -> Judgement:
    """Each voxel that was not read gets the answer of the one before it."""
    parts = []
    for axis, (part, step, size) in enumerate(zip(window, steps, shape, strict=True), start=1):
        stop = min(part.stop * step, size)
        if step > 1:
            probabilities = np.repeat(probabilities, step, axis).take(np.arange(stop - part.start * step), axis)
        parts.append(slice(part.start * step, stop))
    first, second, third = parts
    return Judgement(probabilities, (first, second, third))


@torch.inference_mode()
def predict(network: nn.Module, channels: NDArray[np.float32]) -> Field:
    """Probabilities of channels, in slabs that overlap by what reaches from one into the other."""
    cleaned = np.nan_to_num(channels, copy=False, nan=0.0, posinf=4.0, neginf=-4.0)
    n_planes, height, width = channels.shape[1:]
    step = max(LEAST_PLANES, MAX_VOXELS // (height * width) - 2 * HALO)
    if n_planes * height * width <= MAX_VOXELS:
        step = n_planes
    slabs = []
    for start in range(0, n_planes, step):
        stop = min(start + step, n_planes)
        low, high = max(0, start - HALO) // POOL * POOL, min(n_planes, stop + HALO)
        slab = torch.from_numpy(cleaned[:, low:high])[None]
        padding = [side for size in reversed(slab.shape[2:]) for side in (0, -size % POOL)]
        padded = nn.functional.pad(slab, padding).contiguous(memory_format=torch.channels_last_3d)
        logits = network(padded)[0, :, start - low : stop - low, :height, :width]
        slabs.append(logits.softmax(0).numpy())
    return np.concatenate(slabs, axis=1) if len(slabs) > 1 else slabs[0]

"""Apply the judge to a volume: two rounds on a region at full resolution, probabilities on the source grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.judge.channels import View, judge_channels, strided, with_appearance
from inference.judge.context import depth_in, resampled
from inference.judge.region import Window, find_landmarks, region_of
from inference.judge.removed_parts import believed_parts
from inference.refine.grids import Field, Mask, Spacing
from inference.refine.judged import JudgedArea

FINEST_MM = 0.9  # along a finer axis every second voxel is read, so that values stay exact
POOL = 8  # the network halves its input three times
HALO = 32  # planes; voxels farther away have no influence
MAX_VOXELS = 6_000_000  # that the network sees at once; limits its memory
LEAST_PLANES = 16  # of a slab without its halo
CHANGED_FROM, SURELY_FROM = 0.5, 0.7  # probability of a change
SURE_OF_SOMETHING = 0.5  # if no voxel has this probability of a change, there is no second round


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Probabilities (4, slice, row, column) of background, removed, smoothed and replaced in a window of the volume."""

    probabilities: Field
    window: Window

    @property
    def changed(self) -> Field:
        """Probability (slice, row, column) of any change."""
        return np.asarray(1 - self.probabilities[0], dtype=np.float32)

    def area(self, shape: tuple[int, ...], spacing_mm: Spacing) -> JudgedArea:
        """Return the changed voxels on the source grid of this shape and spacing (slice, row, column)."""
        removed, altered, surely, believed = np.zeros((4, *shape), bool)
        changed = self.changed
        is_changed, is_removed = changed > CHANGED_FROM, self.probabilities[1] >= self.probabilities[2:].sum(0)
        removed[self.window], altered[self.window] = is_changed & is_removed, is_changed & ~is_removed
        surely[self.window] = changed > SURELY_FROM
        voxel_ml = float(np.prod(spacing_mm)) / 1000.0
        believed[self.window] = believed_parts(is_changed & is_removed, changed, voxel_ml)
        return JudgedArea(removed, altered, surely, believed, self.window)


def strides_of(spacing_mm: Spacing) -> tuple[int, int, int]:
    """Return the stride along each axis with which voxels are read."""
    first, second, third = (2 if step < FINEST_MM else 1 for step in spacing_mm)
    return first, second, third


def view_volume(voxels: Field, spacing_mm: Spacing, body: Mask, context: Field) -> View:
    """Return the judge's region of a volume in which every voxel is read.

    Parameters
    ----------
    voxels, body
        (slice, row, column) with axes towards head, posterior and left; ``body`` is the 3 mm network's.
    spacing_mm
        Along the same axes.
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
    """Return the probabilities of a change in the judge's region, on the grid of ``voxels``.

    Parameters
    ----------
    voxels, spacing_mm, body, context
        As for ``view_volume``, but with any spacing.
    n_rounds
        From the second round on, values are compared with those in the voxels that the previous round found changed.
    """
    steps = strides_of(spacing_mm)
    places = strided(steps)
    first, second, third = (mm * step for mm, step in zip(spacing_mm, steps, strict=True))
    view = view_volume(np.ascontiguousarray(voxels[places]), (first, second, third), body[places], context)
    channels = judge_channels(view)
    probabilities = predict(network, channels)
    for _ in range(1, n_rounds):
        found = 1 - probabilities[0]
        if float(found.max()) < SURE_OF_SOMETHING:
            break
        probabilities = predict(network, with_appearance(channels, view.on_network_grid(), found))
    return _on_source_grid(probabilities, view, steps, voxels.shape)


def _on_source_grid(probabilities: Field, view: View, steps: tuple[int, int, int], shape: tuple[int, ...]) -> Judgement:
    """Return the judgement on the source grid; voxels that the network did not read are interpolated linearly.

    Parameters
    ----------
    steps
        The stride with which the view was read from the source.
    shape
        (slice, row, column) of the source.
    """
    parts, axes = [], zip(view.window, steps, view.network_steps, shape, strict=True)
    for axis, (part, step, network_step, size) in enumerate(axes, start=1):
        start, stop = part.start * step, min(part.stop * step, size)
        if step * network_step > 1:
            probabilities = _between(probabilities, axis, step * network_step, stop - start)
        parts.append(slice(start, stop))
    first, second, third = parts
    return Judgement(probabilities, (first, second, third))


def _between(values: Field, axis: int, step: int, size: int) -> Field:
    """Return ``size`` values along an axis, of which ``values`` are every ``step``-th; the last one is repeated."""
    places = np.arange(size) / step
    low = np.minimum(places.astype(np.int64), values.shape[axis] - 1)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = np.minimum(places - low, 1).astype(np.float32).reshape([-1 if axis == other else 1 for other in range(4)])
    return np.asarray(values.take(low, axis) * (1 - share) + values.take(high, axis) * share, dtype=np.float32)


@torch.inference_mode()
def predict(network: nn.Module, channels: NDArray[np.float32]) -> Field:
    """Return the probabilities (label, slice, row, column) for channels (channel, slice, row, column).

    Large regions are computed in slabs that overlap by the network's receptive field, each on the network's device.
    """
    device = next((weights.device for weights in network.parameters()), torch.device("cpu"))
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
        logits = network(padded.to(device))[0, :, start - low : stop - low, :height, :width]
        slabs.append(logits.softmax(0).cpu().numpy())
    return np.concatenate(slabs, axis=1) if len(slabs) > 1 else slabs[0]

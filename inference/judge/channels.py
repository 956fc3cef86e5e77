"""Compute the judge's input channels from stored values, so that contrast, unit and noise level don't matter.

Window sizes are in voxels, because the traces of defacing tools (equal values, noise, smoothing) are a property of
voxels. The scan's own tissue and air, which values are compared with, are measured in the same region. What a few
voxels show is computed on all of them; the network then sees every second one or fewer where they are finer than 2 mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.judge.region import Landmarks, Window
from inference.refine.grids import Field, Mask, Spacing

CHANNEL_NAMES = (
    "value",
    "deviation",
    "constancy",
    "frequency",
    "turns",
    "turns_around",
    "whiteness",
    "noise",
    "depth",
    "removed",
    "smoothed",
    "replaced",
    "below_vertex",
    "behind_forehead",
    "beside_midline",
    "equal",
    "unlike_tissue",
    "unlike_air",
)
NETWORK_MM = 1.9  # the network reads every voxel of 1.3 mm and more, every second one of 0.8 to 1.3 mm, and so on
TISSUE_PERCENTILE = 70.0
AIR_HEIGHT_MM = 8.0  # voxels farther than this from the body are air
EVERY = 3  # every third voxel of tissue and air is enough for a median
CONSTANT_FROM = 5.5  # equal neighbours, of six
LEAST_VALUES, MOST_VALUES = 60, 200_000  # size of a sample that is compared
N_BINS = 48
LARGEST_EVIDENCE = 4.0  # of one voxel, as a natural logarithm
FILL_SHARE, DOMINANCE = 0.2, 3.0  # of the core's values, as in inference.refine.anonymized
SURE_FROM, SURE_SHARE = 0.5, 0.6  # probability of a change, absolute and as a share of the maximum: certainly changed
FAR_BELOW = 0.05  # probability of a change: certainly unchanged
LEAST_FOUND = 0.1  # if no voxel has this probability of a change, there is nothing to compare


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Input data of the judge: one region of a volume.

    Attributes
    ----------
    voxels
        (slice, row, column) stored values of the region.
    depth_mm
        (slice, row, column) depth below the surface of the 3 mm network's body, negative outside.
    context
        (4, slice, row, column) probabilities of the 3 mm network: background, removed, smoothed, replaced.
    window
        Position of the region in its volume.
    landmarks
        In the coordinates of the volume, not of the region.
    spacing_mm
        Along (slice, row, column).
    steps
        Stride along each axis with which the region's voxels are in this view.
    """

    voxels: Field
    depth_mm: Field
    context: Field
    window: Window
    landmarks: Landmarks
    spacing_mm: Spacing
    steps: tuple[int, int, int] = (1, 1, 1)

    @property
    def start_mm(self) -> Spacing:
        """Position of the first voxel in the volume, along (slice, row, column)."""
        first, second, third = (
            part.start * mm / step for part, mm, step in zip(self.window, self.spacing_mm, self.steps, strict=True)
        )
        return first, second, third

    @property
    def network_steps(self) -> tuple[int, int, int]:
        """The stride along each axis with which the network reads the channels."""
        first, second, third = (max(1, round(NETWORK_MM / step)) for step in self.spacing_mm)
        return first, second, third

    def on_network_grid(self) -> View:
        """Return the region with the voxels that the network reads; ``window`` remains that of all voxels."""
        steps = self.network_steps if self.steps == (1, 1, 1) else (1, 1, 1)
        if steps == (1, 1, 1):
            return self
        places = strided(steps)
        first, second, third = (mm * step for mm, step in zip(self.spacing_mm, steps, strict=True))
        return replace(
            self,
            voxels=np.ascontiguousarray(self.voxels[places]),
            depth_mm=np.ascontiguousarray(self.depth_mm[places]),
            context=np.ascontiguousarray(self.context[:, *places]),
            spacing_mm=(first, second, third),
            steps=steps,
        )


def strided(steps: tuple[int, int, int]) -> tuple[slice, ...]:
    """Return the index that takes every n-th voxel along each axis, with the first one."""
    return tuple(slice(None, None, step) for step in steps)


def judge_channels(view: View, found: Field | None = None) -> Field:
    """Return the channels, (channel, slice, row, column) float32 in the order of ``CHANNEL_NAMES``.

    They are on the grid that the network sees, that of ``view.on_network_grid()``.

    Parameters
    ----------
    found
        (slice, row, column) probability on that grid that a voxel was changed; values there are compared with others.
        None for that of the 3 mm network.
    """
    body, air = view.depth_mm > 0, view.depth_mm < -AIR_HEIGHT_MM
    unit = _unit(view.voxels, body, air)
    seen, places = view.on_network_grid(), strided(view.network_steps)
    likely = 1 - seen.context[0] if found is None else found
    channels = [
        *(field[places] for field in _local(view.voxels, unit, body)),
        np.clip(seen.depth_mm / 15, -2, 2),
        *seen.context[1:4],
        *_places(seen),
        *_appearance(seen.voxels, seen.depth_mm > 0, likely),
    ]
    stacked = np.empty((len(CHANNEL_NAMES), *seen.voxels.shape), np.float32)
    for channel, values in zip(stacked, channels, strict=True):
        channel[...] = values
    return stacked


def with_appearance(channels: Field, view: View, found: Field) -> Field:
    """Return a copy of ``channels`` whose comparisons of values use another probability of change.

    Parameters
    ----------
    channels
        (channel, slice, row, column) as ``judge_channels`` returns them.
    view
        On the grid of the channels, as ``on_network_grid`` returns it.
    found
        (slice, row, column) probability that a voxel was changed.
    """
    refreshed = channels.copy()
    refreshed[-3:] = _appearance(view.voxels, view.depth_mm > 0, found)
    return refreshed


def _unit(voxels: Field, body: Mask, air: Mask) -> Field:
    """Return the values scaled so that air is at 0 and bright tissue at 1."""
    outside, inside = voxels[air][::EVERY], voxels[body][::EVERY]
    low = float(np.median(outside)) if outside.size else float(voxels.min())
    high = float(np.percentile(inside, TISSUE_PERCENTILE)) if inside.size else low + 1.0
    return np.asarray(np.clip((voxels - np.float32(low)) / np.float32(max(abs(high - low), 1e-3)), -3, 4))


def _local(voxels: Field, unit: Field, body: Mask) -> list[Field]:
    """Return the channels ``value`` to ``noise``, which depend on a few voxels around each one."""
    variance = {size: _variance(unit, size) for size in (3, 5)}
    equal, steps, squared, laplacian, turns = _differences(voxels, unit)
    ratio = np.minimum(np.divide(turns, steps, out=np.zeros_like(steps), where=steps > 1e-6), 3)
    is_varied = (equal < CONSTANT_FROM).astype(np.float32)
    usual_turns = _median(ratio, body & (equal < CONSTANT_FROM), 1.0)
    varied = [_smooth(ratio * is_varied, size) / (_smooth(is_varied, size) + 0.05) for size in (5, 9)]
    noise = np.log(_smooth(np.abs(laplacian), 3) + 2e-3)
    return [
        unit,
        (np.log(np.sqrt(variance[3]) + 3e-3) + 3) / 2,
        equal / 6,
        (_log_share(voxels) + 3) / 1.5,
        *(np.clip(field / max(usual_turns, 0.05), 0, 3) - 1 for field in varied),
        np.clip(_box(squared, 5) / 3 / (2 * variance[5] + 1e-5), 0, 2) - 0.7,
        np.clip((noise - _median(noise, body, 0.0)) / 2, -3, 3),
    ]


def _differences(voxels: Field, unit: Field) -> tuple[Field, Field, Field, Field, Field]:
    """Return differences between neighbouring voxels, each as an array in the shape of ``voxels``.

    In order: number of equal face neighbours (0 to 6), mean absolute step, sum of squared steps, Laplacian, and the
    median over the axes of the absolute second difference (turn).
    """
    equal, steps, squared, laplacian = np.zeros((4, *voxels.shape), np.float32)
    turns: list[Field] = []
    for axis in range(3):
        lower, middle, upper = _sides(axis)
        step = np.diff(unit, axis=axis)
        is_equal = np.diff(voxels, axis=axis) == 0
        size = np.abs(step)
        for side in (lower, upper):
            equal[side] += is_equal
            steps[side] += size
        squared[lower] += step * step
        turn = np.diff(step, axis=axis)
        laplacian[middle] += turn
        whole = np.zeros(voxels.shape, np.float32)
        whole[middle] = np.abs(turn)
        turns.append(whole)
    first, second, third = turns
    middle_turn = np.maximum(np.minimum(first, second), np.minimum(np.maximum(first, second), third))
    return equal, np.asarray(steps / 6), squared, laplacian, np.asarray(middle_turn)


def _sides(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...], tuple[slice, ...]]:
    """Return three indices: all voxels but the last along an axis, those with two neighbours, all but the first."""
    parts = (slice(None, -1), slice(1, -1), slice(1, None))
    lower, middle, upper = (tuple(part if other == axis else slice(None) for other in range(3)) for part in parts)
    return lower, middle, upper


def _log_share(voxels: Field) -> Field:
    """Return the decimal logarithm of the share of voxels that hold exactly the same value as each voxel."""
    _, places, counts = np.unique(voxels, return_inverse=True, return_counts=True)
    return np.log10(1e-5 + counts / voxels.size).astype(np.float32)[places.reshape(voxels.shape)]


def _places(view: View) -> list[Field]:
    """Return three broadcastable fields: distance in units of 100 mm below vertex, behind forehead and from midline."""
    marks = (view.landmarks.vertex_mm, view.landmarks.forehead_mm, view.landmarks.midline_mm)
    along = []
    for axis, (size, start, step, mark) in enumerate(
        zip(view.voxels.shape, view.start_mm, view.spacing_mm, marks, strict=True)
    ):
        offset = (start + np.arange(size) * step - mark) / 100
        shape = [-1 if other == axis else 1 for other in range(3)]
        along.append(offset.astype(np.float32).reshape(shape))
    return [np.clip(-along[0], -1, 3), np.clip(along[1], -1, 3), np.abs(along[2])]


def _appearance(voxels: Field, body: Mask, likely: Field) -> list[Field]:
    """Return the channels ``equal``, ``unlike_tissue`` and ``unlike_air``.

    The first marks voxels with the constant value that a tool wrote. The others say how much more likely the values
    nearby are in changed voxels than in tissue, or in air.
    """
    highest = float(likely.max())
    if highest < LEAST_FOUND:
        return [np.zeros(voxels.shape, np.float32)] * 3
    core = likely > max(SURE_FROM, SURE_SHARE * highest)
    if np.count_nonzero(core) < LEAST_VALUES:
        core = likely > SURE_FROM * highest
    values, counts = np.unique(voxels[core], return_counts=True)
    order = np.argsort(counts)[::-1]
    following = int(counts[order[1]]) if counts.size > 1 else 0
    is_fill = counts[order[0]] > FILL_SHARE * np.count_nonzero(core) and counts[order[0]] > DOMINANCE * following
    equal = (voxels == values[order[0]]).astype(np.float32) if is_fill else np.zeros(voxels.shape, np.float32)
    far = likely < FAR_BELOW
    evidence = (_log_ratio(voxels, core, body & far), _log_ratio(voxels, core, ~body & far))
    return [equal, *(np.asarray(_box(field, 3) / 2, dtype=np.float32) for field in evidence)]


def _log_ratio(voxels: Field, core: Mask, others: Mask) -> Field:
    """Return for each voxel the log ratio of its value's frequency in the core to that among others.

    All zeros if there are too few voxels of either.
    """
    inside, outside = voxels[core], voxels[others]
    if min(inside.size, outside.size) < LEAST_VALUES:
        return np.zeros(voxels.shape, np.float32)
    count = min(inside.size, outside.size, MOST_VALUES)
    samples = [values[np.linspace(0, values.size - 1, count).astype(np.int64)] for values in (inside, outside)]
    bounds = np.unique(np.quantile(np.concatenate(samples), np.linspace(0, 1, N_BINS + 1)[1:-1]))
    first, second = (_bin_shares(values, bounds) for values in samples)
    ratio = np.clip(np.log(first / second), -LARGEST_EVIDENCE, LARGEST_EVIDENCE).astype(np.float32)
    return ratio[np.searchsorted(bounds, voxels, side="right")]


def _bin_shares(values: Field, bounds: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the smoothed share of values in each bin between the bounds; no share is zero."""
    counts = np.bincount(np.searchsorted(bounds, values, side="right"), minlength=bounds.size + 1).astype(np.float64)
    counts = ndimage.gaussian_filter1d(counts, 0.7, mode="nearest") + 1 + 0.001 * values.size / N_BINS
    return np.asarray(counts / counts.sum())


def _variance(values: Field, size: int) -> Field:
    """Return the local variance in a cube of ``size`` voxels."""
    mean = _box(values, size)
    return np.maximum(_box(values * values, size) - mean * mean, 0)


def _box(values: Field, size: int) -> Field:
    """Return the local mean in a cube of ``size`` voxels; the array is mirrored at its edges."""
    return np.asarray(ndimage.uniform_filter(values, size), dtype=np.float32)


def _smooth(values: Field, size: int) -> Field:
    """Return the local mean, applied twice."""
    return _box(_box(values, size), size)


def _median(values: Field, where: Mask, otherwise: float) -> float:
    chosen = values[where][::EVERY]
    return float(np.median(chosen)) if chosen.size else otherwise

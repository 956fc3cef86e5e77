"""Crop, normalise and resample a volume as nnU-Net does; models with the same preprocessing share the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from inference.nnunet.channels import READERS, Reader
from inference.nnunet.plans import Normalization, Plans, Resampling
from inference.nnunet.resampling import GridChange, plan_resampling, resampled_shape, slab_planes

SMALLEST_STD = 1e-8
LINEAR = Resampling(order=1, order_z=0, force_separate_z=None, is_clipped=False)

Voxels = NDArray[np.float32]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Slab = Callable[[Voxels], Voxels]


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """Input of a network, and what is needed to bring its output back to the source grid.

    All axes are in the order of the network (after ``transpose_forward``).
    """

    values: torch.Tensor  # (channel, z, y, x) float32 on the model grid
    box: Box  # half-open bounds of the cropped part in the source grid
    source_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]  # of the source grid


class Preprocessing:
    """Prepare one volume for several models, and keep what was computed for the next one.

    Parameters
    ----------
    voxels
        (z, y, x) float32 in the orientation of the model, not normalised (Hounsfield units for CT). Never changed.
    spacing_mm
        Along z, y and x.
    device
        Where resampling runs and where the results are kept; None for the CPU.
    """

    def __init__(self, voxels: Voxels, spacing_mm: Sequence[float], *, device: torch.device | None = None) -> None:
        self._voxels = voxels
        self._spacing_mm = tuple(spacing_mm)
        self._device = device or torch.device("cpu")
        self._readers: dict[str, Reader] = {}
        self._boxes: dict[tuple[str, ...], Box] = {}
        self._resampled: dict[object, torch.Tensor] = {}

    def prepare(self, plans: Plans, channels: Sequence[str]) -> ModelInput:
        """Return the input for one model; channels already prepared in the same way for another model are shared.

        Parameters
        ----------
        channels
            Names in ``channels.CHANNELS``, in the order of ``plans.normalizations``.
        """
        axes = plans.transpose_forward
        box = self._crop_box(tuple(channels))
        box = (box[axes[0]], box[axes[1]], box[axes[2]])
        shape = self._voxels.shape
        parts = []
        for name, normalization in zip(channels, plans.normalizations, strict=True):
            # Our own channels (fractions, masks) must not overshoot; only the image uses nnU-Net's spline.
            how = plans.data_resampling if name == "image" else LINEAR
            mask_channels = frozenset(channels) if normalization.use_mask else None
            key = (name, axes, box, normalization, mask_channels, how, plans.spacing_mm)
            if key not in self._resampled:
                values, normalize = ChannelPart(self._reader(name), axes, box), None
                if normalization.use_mask and normalization.scheme == "ZScoreNormalization":
                    others = [ChannelPart(self._reader(other), axes, box).whole() for other in channels]
                    nonzero = np.logical_or.reduce([other != 0 for other in others])
                    values = part_of_array(_zscore_inside(values.whole(), nonzero))
                else:
                    normalize = normalizer(values, normalization)
                self._resampled[key] = self._resample(values, normalize, axes, how, plans.spacing_mm)
            parts.append(self._resampled[key])
        return ModelInput(
            values=torch.stack(parts),
            box=box,
            source_shape=(shape[axes[0]], shape[axes[1]], shape[axes[2]]),
            spacing_mm=self._transposed_spacing(axes),
        )

    def model_shape(self, plans: Plans) -> list[int]:
        """Return the shape of the uncropped volume on the grid of a model, in the order of the network's axes."""
        axes = plans.transpose_forward
        shape = [self._voxels.shape[axis] for axis in axes]
        return resampled_shape(shape, self._transposed_spacing(axes), plans.spacing_mm)

    def _transposed_spacing(self, axes: tuple[int, int, int]) -> tuple[float, float, float]:
        return self._spacing_mm[axes[0]], self._spacing_mm[axes[1]], self._spacing_mm[axes[2]]

    def _reader(self, name: str) -> Reader:
        """Return the function that computes a channel in a region of the source grid."""
        if name not in self._readers:
            self._readers[name] = READERS[name](self._voxels)
        return self._readers[name]

    def _crop_box(self, names: tuple[str, ...]) -> Box:
        """Return the bounding box of voxels that are non-zero in any channel; the whole grid if there are none."""
        if names not in self._boxes:
            first, second, third = ((0, size) for size in self._voxels.shape)
            whole: Box = (first, second, third)
            box: Box | None = None
            for name in names:
                box = _joined(box, nonzero_box(ChannelPart(self._reader(name), (0, 1, 2), whole)))
                if box == whole:
                    break
            self._boxes[names] = box or whole
        return self._boxes[names]

    def _resample(
        self,
        values: ChannelPart,
        normalize: Slab | None,
        axes: tuple[int, int, int],
        how: Resampling,
        new_spacing_mm: Sequence[float],
    ) -> torch.Tensor:
        spacing_mm = self._transposed_spacing(axes)
        new_shape = resampled_shape(values.shape, spacing_mm, new_spacing_mm)
        change = plan_resampling(values.shape, new_shape, spacing_mm, new_spacing_mm, how)
        return resample(values, change, normalize, is_clipped=how.is_clipped and how.order > 1, device=self._device)


@dataclass(frozen=True, slots=True)
class ChannelPart:
    """The cropped part of a channel, in the order of the network's axes, computed slab by slab.

    Attributes
    ----------
    read
        Returns the channel in a region of the volume, in the axis order of the volume.
    axes
        Axis of the volume for each axis of the network.
    box
        Half-open bounds in the order of the network's axes.
    """

    read: Reader
    axes: tuple[int, int, int]
    box: Box

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size along the network's axes."""
        first, second, third = (high - low for low, high in self.box)
        return first, second, third

    def slab(self, axis: int, start: int, stop: int) -> Voxels:
        """Return the planes from ``start`` to before ``stop`` along one axis, as (z, y, x) float32."""
        parts = [slice(low, high) for low, high in self.box]
        low = self.box[axis][0]
        parts[axis] = slice(low + start, low + stop)
        first, second, third = (parts[self.axes.index(source)] for source in range(3))
        return np.transpose(self.read((first, second, third)), self.axes)

    def __iter__(self) -> Iterator[Voxels]:
        """Yield the planes along the first axis, each (y, x) float32."""
        n_planes, rows, columns = self.shape
        step = slab_planes(rows * columns)
        for start in range(0, n_planes, step):
            yield from self.slab(0, start, min(start + step, n_planes))

    def whole(self) -> Voxels:
        """Return the whole part as one array (z, y, x)."""
        return self.slab(0, 0, self.shape[0])


def part_of_array(array: Voxels) -> ChannelPart:
    """Return an array (z, y, x) that is already in memory as a channel part."""
    first, second, third = ((0, size) for size in array.shape)
    return ChannelPart(lambda region: array[region], (0, 1, 2), (first, second, third))


def nonzero_box(part: ChannelPart) -> Box | None:
    """Return the half-open bounds of the non-zero voxels; None if there are none.

    nnU-Net fills holes before it takes the bounds; this does not change them.
    """
    n_planes, n_rows, n_columns = part.shape
    planes, rows, columns = (np.zeros(size, bool) for size in (n_planes, n_rows, n_columns))
    for index, plane in enumerate(part):
        nonzero = plane != 0
        planes[index] = nonzero.any()
        rows |= nonzero.any(axis=1)
        columns |= nonzero.any(axis=0)
    return (_bounds(planes), _bounds(rows), _bounds(columns)) if planes.any() else None


def _joined(box: Box | None, other: Box | None) -> Box | None:
    """Return the smallest box that contains both."""
    if box is None or other is None:
        return box or other
    first, second, third = ((min(one[0], two[0]), max(one[1], two[1])) for one, two in zip(box, other, strict=True))
    return first, second, third


def _bounds(used: NDArray[np.bool_]) -> tuple[int, int]:
    indices = np.flatnonzero(used)
    return int(indices[0]), int(indices[-1]) + 1


def normalizer(values: ChannelPart, normalization: Normalization) -> Slab | None:
    """Return a function that normalises any part of ``values`` with the statistics of the whole.

    None if the values stay as they are.
    """
    scheme = normalization.scheme
    if scheme == "NoNormalization":
        return None
    if scheme == "CTNormalization":
        low, high = normalization.lower, normalization.upper
        scale = max(normalization.std, SMALLEST_STD)
        return lambda slab: (np.clip(slab, low, high) - np.float32(normalization.mean)) / np.float32(scale)
    if scheme == "RGBTo01Normalization":
        return lambda slab: slab / np.float32(255.0)
    if scheme == "RescaleTo01Normalization":
        lowest = np.float32(min(plane.min() for plane in values))
        extent = np.float32(max(float(max(plane.max() for plane in values)) - float(lowest), SMALLEST_STD))
        return lambda slab: (slab - lowest) / extent
    mean, std = _mean_and_std(values)
    return lambda slab: (slab - np.float32(mean)) / np.float32(max(std, SMALLEST_STD))


def _mean_and_std(values: ChannelPart) -> tuple[float, float]:
    """Return mean and standard deviation, computed plane by plane in double precision."""
    count = math.prod(values.shape)
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in values) / count
    square = sum(float(np.square(plane - mean, dtype=np.float64).sum()) for plane in values) / count
    return mean, math.sqrt(square)


def _zscore_inside(values: Voxels, nonzero: NDArray[np.bool_]) -> Voxels:
    """Return the values, normalised inside the non-zero region with its holes filled and unchanged outside."""
    inside = np.asarray(ndimage.binary_fill_holes(nonzero))
    result = np.array(values, dtype=np.float32)
    chosen = result[inside]
    if chosen.size:
        result[inside] = (chosen - chosen.mean()) / max(float(chosen.std()), SMALLEST_STD)
    return result


def resample(
    values: ChannelPart, change: GridChange, normalize: Slab | None, *, is_clipped: bool, device: torch.device
) -> torch.Tensor:
    """Normalise and resample a channel slab by slab.

    With ``is_clipped``, spline overshoot is clipped to the range of the input, as scikit-image does: to the range of
    the volume or, if one axis is resampled separately, to that of each of its slices.

    Returns
    -------
    torch.Tensor
        (z, y, x) float32 on ``device``, in the shape that ``change`` leads to.
    """
    leading = change.separate_axis or 0
    order = (leading, *(axis for axis in range(3) if axis != leading))
    along, rows, columns = (change.operators[axis] for axis in order)
    n_planes = values.shape[leading]
    step = slab_planes(math.prod(values.shape) // max(1, n_planes))
    parts: list[torch.Tensor] = []
    low, high = math.inf, -math.inf
    for start in range(0, n_planes, step):
        stop = min(start + step, n_planes)
        slab = np.ascontiguousarray(np.transpose(values.slab(leading, start, stop), order), dtype=np.float32)
        slab = normalize(slab) if normalize is not None else slab.copy()
        part = torch.from_numpy(np.asarray(slab, dtype=np.float32)).to(device)
        lowest, highest = part.amin((1, 2), keepdim=True), part.amax((1, 2), keepdim=True)
        low, high = min(low, float(lowest.min())), max(high, float(highest.max()))
        part = rows.apply(columns.apply(part, 2), 1)
        if is_clipped and change.separate_axis is not None:
            part = torch.maximum(torch.minimum(part, highest), lowest)
        parts.append(part)
    resampled = along.apply(torch.cat(parts), 0)
    if is_clipped and change.separate_axis is None and not change.is_identity:
        resampled.clamp_(low, high)
    return resampled.permute(*np.argsort(order).tolist()).contiguous()

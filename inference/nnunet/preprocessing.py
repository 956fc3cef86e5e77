"""A volume as a network wants it: cropped, normalised and resampled as nnU-Net does, once for all models that agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from inference.nnunet.channels import CHANNELS
from inference.nnunet.plans import Normalization, Plans, Resampling
from inference.nnunet.resampling import GridChange, plan_resampling, resampled_shape, slab_planes

SMALLEST_STD = 1e-8
LINEAR = Resampling(order=1, order_z=0, force_separate_z=None, is_clipped=False)

Voxels = NDArray[np.float32]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Slab = Callable[[Voxels], Voxels]


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """What a network is given, and what is needed to bring its answer back.

    All in the order of the network's axes (after ``transpose_forward``).
    """

    values: torch.Tensor  # (channel, z, y, x) float32 on the model grid
    box: Box  # the part of the source grid that was not cropped away
    source_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]  # of the source grid


class Preprocessing:
    """One volume and everything that was already computed from it.

    Parameters
    ----------
    voxels
        (z, y, x) float32 in the orientation of the model, raw values (Hounsfield units for CT). Never written to.
    spacing_mm
        In the same order.
    device
        Where resampling runs and where the results lie.
    """

    def __init__(self, voxels: Voxels, spacing_mm: Sequence[float], *, device: torch.device | None = None) -> None:
        self._voxels = voxels
        self._spacing_mm = tuple(spacing_mm)
        self._device = device or torch.device("cpu")
        self._channels: dict[str, Voxels] = {"image": voxels}
        self._boxes: dict[tuple[str, ...], Box] = {}
        self._resampled: dict[object, torch.Tensor] = {}

    def prepare(self, plans: Plans, channels: Sequence[str]) -> ModelInput:
        """Give the input for one model; channels that another model had prepared alike are shared."""
        axes = plans.transpose_forward
        box = self._crop_box(tuple(channels))
        box = (box[axes[0]], box[axes[1]], box[axes[2]])
        shape = self._voxels.shape
        parts = []
        for name, normalization in zip(channels, plans.normalizations, strict=True):
            # Values of ours (shares, masks) must not overshoot; only the image gets nnU-Net's spline.
            how = plans.data_resampling if name == "image" else LINEAR
            mask_channels = frozenset(channels) if normalization.use_mask else None
            key = (name, axes, box, normalization, mask_channels, how, plans.spacing_mm)
            if key not in self._resampled:
                values = self._part(name, axes, box)
                if normalization.use_mask and normalization.scheme == "ZScoreNormalization":
                    nonzero = np.logical_or.reduce([self._part(other, axes, box) != 0 for other in channels])
                    values, normalize = _zscore_inside(values, nonzero), None
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

    def _transposed_spacing(self, axes: tuple[int, int, int]) -> tuple[float, float, float]:
        return self._spacing_mm[axes[0]], self._spacing_mm[axes[1]], self._spacing_mm[axes[2]]

    def _channel(self, name: str) -> Voxels:
        """Raw values of a channel on the source grid."""
        if name not in self._channels:
            self._channels[name] = CHANNELS[name](self._voxels)
        return self._channels[name]

    def _crop_box(self, names: tuple[str, ...]) -> Box:
        """Bounding box of what is not zero in at least one channel; the whole grid where nothing is."""
        if names not in self._boxes:
            first, second, third = ((0, size) for size in self._voxels.shape)
            whole: Box = (first, second, third)
            box: Box | None = None
            for name in names:
                box = _joined(box, nonzero_box(self._channel(name)))
                if box == whole:
                    break
            self._boxes[names] = box or whole
        return self._boxes[names]

    def _part(self, name: str, axes: tuple[int, int, int], box: Box) -> Voxels:
        """View of a channel's cropped part, in the order of the network's axes."""
        region = tuple(slice(low, high) for low, high in box)
        return np.transpose(self._channel(name), axes)[region]

    def _resample(
        self,
        values: Voxels,
        normalize: Slab | None,
        axes: tuple[int, int, int],
        how: Resampling,
        new_spacing_mm: Sequence[float],
    ) -> torch.Tensor:
        spacing_mm = self._transposed_spacing(axes)
        new_shape = resampled_shape(values.shape, spacing_mm, new_spacing_mm)
        change = plan_resampling(values.shape, new_shape, spacing_mm, new_spacing_mm, how)
        return resample(values, change, normalize, is_clipped=how.is_clipped and how.order > 1, device=self._device)


def nonzero_box(voxels: Voxels) -> Box | None:
    """Half-open bounds of what is not zero; None where all is.

    nnU-Net fills holes before it takes the bounds, which cannot change them.
    """
    planes = np.array([bool(plane.any()) for plane in voxels])
    if not planes.any():
        return None
    rows = np.zeros(voxels.shape[1], bool)
    columns = np.zeros(voxels.shape[2], bool)
    for plane in voxels[planes]:
        nonzero = plane != 0
        rows |= nonzero.any(axis=1)
        columns |= nonzero.any(axis=0)
    return _bounds(planes), _bounds(rows), _bounds(columns)


def _joined(box: Box | None, other: Box | None) -> Box | None:
    """Smallest box around both."""
    if box is None or other is None:
        return box or other
    first, second, third = ((min(one[0], two[0]), max(one[1], two[1])) for one, two in zip(box, other, strict=True))
    return first, second, third


def _bounds(used: NDArray[np.bool_]) -> tuple[int, int]:
    indices = np.flatnonzero(used)
    return int(indices[0]), int(indices[-1]) + 1


def normalizer(values: Voxels, normalization: Normalization) -> Slab | None:
    """Function that normalises any part of ``values``, with the statistics of the whole; None where nothing changes."""
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
        lowest = np.float32(values.min())
        extent = np.float32(max(float(values.max()) - float(lowest), SMALLEST_STD))
        return lambda slab: (slab - lowest) / extent
    mean, std = _mean_and_std(values)
    return lambda slab: (slab - np.float32(mean)) / np.float32(max(std, SMALLEST_STD))


def _mean_and_std(values: Voxels) -> tuple[float, float]:
    """Mean and standard deviation in double precision, plane by plane."""
    count = values.size
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in values) / count
    square = sum(float(np.square(plane - mean, dtype=np.float64).sum()) for plane in values) / count
    return mean, math.sqrt(square)


def _zscore_inside(values: Voxels, nonzero: NDArray[np.bool_]) -> Voxels:
    """Values normalised by those inside the non-zero region, holes filled; outside they stay as they are."""
    inside = np.asarray(ndimage.binary_fill_holes(nonzero))
    result = np.array(values, dtype=np.float32)
    chosen = result[inside]
    if chosen.size:
        result[inside] = (chosen - chosen.mean()) / max(float(chosen.std()), SMALLEST_STD)
    return result


def resample(
    values: Voxels, change: GridChange, normalize: Slab | None, *, is_clipped: bool, device: torch.device
) -> torch.Tensor:
    """Normalise and resample, a slab of planes at a time.

    Spline overshoot is clipped to the range of the input as scikit-image does: of the volume, or, where one axis is
    treated apart, of each of its slices.
    """
    leading = change.separate_axis or 0
    order = (leading, *(axis for axis in range(3) if axis != leading))
    along, rows, columns = (change.operators[axis] for axis in order)
    planes = np.transpose(values, order)
    step = slab_planes(planes.shape[1] * planes.shape[2])
    parts: list[torch.Tensor] = []
    low, high = math.inf, -math.inf
    for start in range(0, len(planes), step):
        slab = np.ascontiguousarray(planes[start : start + step], dtype=np.float32)
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

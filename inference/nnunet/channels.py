"""Input channels that a model may use in addition to the image.

Each channel is a pure function of the values on the source grid, (slice, row, column) float32. It is computed before
any normalisation and is resampled afterwards like the image. Apart from ``image`` itself, no channel depends on the
scale or offset of the values. A model's ``model.yaml`` names the channels it was trained with; the first is always
``image``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Voxels = NDArray[np.float32]
Region = tuple[slice, slice, slice]
Reader = Callable[[Region], Voxels]

SAMPLES_PER_AXIS = 64  # the median roughness of a volume is taken from at least this many voxels per axis, where it has


def image(voxels: Voxels) -> Voxels:
    """Return the values as they are."""
    return voxels


def field_of_view(voxels: Voxels) -> Voxels:
    """Return ones in the shape of ``voxels``, so that the network can distinguish scanned voxels from zero padding.

    The channel is non-zero everywhere, so nnU-Net's crop to non-zero voxels keeps the whole grid for such a model.
    """
    return np.ones_like(voxels)


def constancy(voxels: Voxels) -> Voxels:
    """Return the fraction of the six face neighbours that hold exactly the same value, from 0 to 1.

    Defacing tools write one value, scanners write noise. At the edge of the array only the neighbours that exist are
    counted. Shape and axis order are those of ``voxels``.
    """
    matches = np.zeros(voxels.shape, np.uint8)
    for axis in range(voxels.ndim):
        lower, upper = _pairs(voxels.ndim, axis)
        equal = voxels[lower] == voxels[upper]
        matches[lower] += equal
        matches[upper] += equal
    return matches.astype(np.float32) / _neighbour_count(voxels.shape)


def roughness(voxels: Voxels) -> Voxels:
    """Return the local roughness relative to the volume's median, from 0 (flat) to 1 (much rougher than the median).

    With s the mean absolute difference to the six face neighbours and m the volume's median non-zero s, the value is
    s / (s + m). Blurred and synthesised surfaces are smoother than their surroundings. Shape and axis order are those
    of ``voxels``.
    """
    return _against_median(_steps(voxels), _median_step(voxels))


def _steps(voxels: Voxels) -> Voxels:
    """Return the mean absolute difference to the face neighbours."""
    steps = np.zeros(voxels.shape, np.float32)
    for axis in range(voxels.ndim):
        lower, upper = _pairs(voxels.ndim, axis)
        step = np.abs(voxels[upper] - voxels[lower])
        steps[lower] += step
        steps[upper] += step
    steps /= _neighbour_count(voxels.shape)
    return steps


def _median_step(voxels: Voxels) -> np.float32 | None:
    """Return the median of the non-zero steps of evenly spaced voxels; None if the volume is constant."""
    strides = [max(1, size // SAMPLES_PER_AXIS) for size in voxels.shape]
    rows, columns = (slice(None, None, stride) for stride in strides[1:])
    planes = []
    for index in range(0, voxels.shape[0], strides[0]):
        plane = _with_neighbours(_steps, voxels, (slice(index, index + 1), slice(None), slice(None)))
        planes.append(plane[0, rows, columns].copy())  # a view would keep the whole slab in memory
    sample = np.stack(planes)
    uneven = sample[sample > 0]
    return np.median(uneven) if uneven.size else None


def _against_median(steps: Voxels, median: np.float32 | None) -> Voxels:
    return steps if median is None else np.divide(steps, steps + median, out=steps)


def _pairs(n_axes: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the indices of all voxels with a successor along ``axis``, and of these successors."""
    lower = [slice(None)] * n_axes
    upper = [slice(None)] * n_axes
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    return tuple(lower), tuple(upper)


def _neighbour_count(shape: tuple[int, ...]) -> Voxels:
    """Return the number of face neighbours of each voxel, at least one to allow division."""
    count = np.zeros([1] * len(shape), np.float32)
    for axis, size in enumerate(shape):
        along = np.full(size, 2.0 if size > 1 else 0.0, np.float32)
        if size > 1:
            along[[0, -1]] = 1.0
        count = count + along.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return np.maximum(count, 1.0)


def _with_neighbours(function: Callable[[Voxels], Voxels], voxels: Voxels, region: Region) -> Voxels:
    """Return the result of ``function`` in a region of the volume; it may depend on face neighbours only."""
    around, inside = [], []
    for part, size in zip(region, voxels.shape, strict=True):
        start, stop, _ = part.indices(size)
        first = max(0, start - 1)
        around.append(slice(first, min(size, stop + 1)))
        inside.append(slice(start - first, stop - first))
    return function(voxels[tuple(around)])[tuple(inside)]


def _shape_of(region: Region, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(len(range(*part.indices(size))) for part, size in zip(region, shape, strict=True))


def _roughness_reader(voxels: Voxels) -> Reader:
    median = _median_step(voxels)
    return lambda region: _against_median(_with_neighbours(_steps, voxels, region), median)


CHANNELS: Mapping[str, Callable[[Voxels], Voxels]] = MappingProxyType(
    {"image": image, "field_of_view": field_of_view, "constancy": constancy, "roughness": roughness}
)

# The same channels, computed region by region, so that no channel of a long scan is ever in memory as a whole.
READERS: Mapping[str, Callable[[Voxels], Reader]] = MappingProxyType(
    {
        "image": lambda voxels: lambda region: voxels[region],
        "field_of_view": lambda voxels: lambda region: np.ones(_shape_of(region, voxels.shape), np.float32),
        "constancy": lambda voxels: lambda region: _with_neighbours(constancy, voxels, region),
        "roughness": _roughness_reader,
    }
)

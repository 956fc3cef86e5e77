"""Turn the frames of one stack into voxels: decode, rescale, invert if needed, and replace padding by air.

Every plane is checked. Differences between planes of one stack (rescale, Photometric Interpretation) are accepted if
the resulting values are continuous from plane to plane, and refused otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.series.errors import MixedPhotometricError, RescaleError
from inference.series.filling import fill_between_frames
from inference.series.geometry import StackGeometry
from inference.series.header_values import first_value
from inference.series.instances import reading
from inference.series.missing import LARGEST_VALUE, LOWEST_AIR_HU, fill_missing, missing_remarks
from inference.series.planes import Plane
from inference.series.remarks import Remark, RemarkCode
from inference.series.rescale_agreement import agree_on_rescale
from inference.series.stored import StoredPlane, stored_plane
from inference.series.tile_pixels import EncodedPlane, plane_words
from inference.series.uids import shown_word

# Of the range between the values' 1st and 99th percentile: air at the frame's edge is this near to the lowest.
DARK_SHARE = 0.1
# PS3.3 C.11.1.1.2
RESCALE_TYPES = ("OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT", "NORMALIZED")
EDGE_PIXELS = 2
SAMPLED_EVERY = 4


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredStack:
    """Voxels of a stack, the mask of those without a measurement (None if there are none), and remarks."""

    voxels: NDArray[np.float32]
    missing: NDArray[np.bool_] | None
    remarks: tuple[Remark, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """Findings in the words of one plane."""

    n_padding: int
    n_odd: int
    are_bits_short: bool


def measure_stack(
    stack: StackGeometry, frames: dict[int, list[EncodedPlane]], uid: str, pool: ThreadPoolExecutor
) -> MeasuredStack:
    """Decode the planes of a stack into their places.

    Parameters
    ----------
    frames
        Encoded frames by ``id`` of the instance; each is dropped once it is decoded.

    Raises
    ------
    SeriesError
        A frame cannot be decoded, or the planes do not fit each other.
    """
    windows = stack.layout.windows()
    voxels = np.empty(stack.shape, np.float32)

    def place(frame: int, plane: Plane) -> _Found:
        encoded = frames[id(plane.instance)][plane.frame_index]
        stored = stored_plane(plane_words(encoded, plane), plane)
        write_measured_values(stored, plane, voxels[windows[frame]])
        frames[id(plane.instance)][plane.frame_index] = b""  # each frame is in one stack: free it
        n_padding = 0 if stored.padding is None else int(np.count_nonzero(stored.padding))
        return _Found(n_padding, stored.n_odd, stored.are_bits_short)

    found = list(pool.map(lambda pair: place(*pair), enumerate(stack.planes)))
    parts = [voxels[window] for window in windows]
    remarks = [*agree_on_rescale(parts, stack.planes, uid), *_put_upright(parts, stack.planes, uid)]
    are_hounsfield_units, unit_remarks = _units_of(stack.planes)
    missing = fill_missing(voxels, windows=windows, air=LOWEST_AIR_HU if are_hounsfield_units else None)
    fill_between_frames(voxels, stack.layout)
    n_missing = 0 if missing is None else int(np.count_nonzero(missing))
    n_padding = sum(one.n_padding for one in found)
    remarks += [*_padding_remarks(n_padding), *missing_remarks(n_missing - n_padding)]
    return MeasuredStack(voxels, missing, (*remarks, *_bit_remarks(found, stack.planes), *unit_remarks))


def write_measured_values(stored: StoredPlane, plane: Plane, target: NDArray[np.float32]) -> None:
    """Rescale one plane (row, column) into ``target``, in float64 if float32 could round twice; padding becomes NaN."""
    slope, intercept, values = plane.rescale_slope, plane.rescale_intercept, stored.values
    is_float = values.dtype.kind == "f"
    with np.errstate(over="ignore", invalid="ignore"):
        if slope == 1.0 and values.dtype.itemsize <= 2:
            np.add(values, np.float32(intercept), out=target, dtype=np.float32)
        else:
            target[...] = values * slope + intercept if not is_float else values.astype(np.float64) * slope + intercept
        largest = max(abs(slope) * 2.0**plane.pixel_format.bits_allocated, abs(intercept))
        if not is_float and largest > LARGEST_VALUE and not (np.abs(target) <= LARGEST_VALUE).all():
            raise RescaleError(plane.instance.name, f"some values are beyond {LARGEST_VALUE:g} once they are rescaled")
    if stored.padding is not None:
        target[stored.padding] = np.nan


def _put_upright(parts: Sequence[NDArray[np.float32]], planes: Sequence[Plane], uid: str) -> tuple[Remark, ...]:
    """Invert, in place, MR with MONOCHROME1, because networks expect dark air.

    Hounsfield units are not inverted, because they do not depend on how they are displayed. If the frame's edge is
    dark as stored, MONOCHROME1 is wrong and ignored.
    """
    if planes[0].is_ct:
        return ()
    n_inverted = sum(plane.is_inverted for plane in planes)
    if not n_inverted:
        return ()
    if n_inverted < len(planes):
        raise MixedPhotometricError(uid, n_inverted, len(planes))
    if _is_edge_dark(parts):
        text = "Photometric Interpretation is MONOCHROME1, but the air is dark as stored; the values are not inverted"
        return (Remark(RemarkCode.MONOCHROME1_CONTRADICTED, text),)
    numbers = [part[np.abs(part) <= LARGEST_VALUE] for part in parts]
    highest = max((float(one.max()) for one in numbers if one.size), default=0.0)
    for part in parts:
        np.subtract(np.float32(highest), part, out=part)
    return (
        Remark(
            RemarkCode.INVERTED,
            "Photometric Interpretation is MONOCHROME1; the values were inverted, so that air is dark",
        ),
    )


def _is_edge_dark(parts: Sequence[NDArray[np.float32]]) -> bool:
    """Whether most pixels at the frames' edges are about as dark as the darkest ones."""
    edges = np.concatenate(
        [side.ravel() for part in parts for side in (part[:EDGE_PIXELS], part[:, :EDGE_PIXELS], part[:, -EDGE_PIXELS:])]
    )
    sample = np.concatenate([part[::SAMPLED_EVERY, ::SAMPLED_EVERY].ravel() for part in parts])
    edges, sample = (values[np.abs(values) <= LARGEST_VALUE] for values in (edges, sample))
    if not edges.size or not sample.size:
        return False
    low, high = np.percentile(sample, [1.0, 99.0])
    return bool(np.median(edges) <= low + DARK_SHARE * (high - low) < high)


def _units_of(planes: Sequence[Plane]) -> tuple[bool, tuple[Remark, ...]]:
    """Return whether all planes have Hounsfield units, which models expect, and remarks on a CT that does not."""
    if not planes[0].is_ct:
        return False, ()
    remarks = []
    with reading(planes[0].instance.name):
        if all(first_value(plane.places, "RescaleIntercept") is None for plane in planes):
            text = "CT without Rescale Intercept; stored values are taken as they are"
            remarks.append(Remark(RemarkCode.RESCALE_MISSING, text))
        types = {plane.rescale_type for plane in planes}
    if types != {"HU"}:
        others = ", ".join(sorted(shown_word(one, *RESCALE_TYPES) for one in types - {"HU"}))
        remarks.append(Remark(RemarkCode.NOT_HOUNSFIELD_UNITS, f"CT values are of Rescale Type {others}, not HU"))
    return not remarks, tuple(remarks)


def _padding_remarks(n_padding: int) -> tuple[Remark, ...]:
    if not n_padding:
        return ()
    return (
        Remark(
            RemarkCode.PADDING_IS_AIR, f"{n_padding} pixels are padding that would have been tissue; they count as air"
        ),
    )


def _bit_remarks(found: Sequence[_Found], planes: Sequence[Plane]) -> tuple[Remark, ...]:
    n_odd = sum(one.n_odd for one in found)
    if not n_odd:
        return ()
    n_short = sum(one.are_bits_short for one in found)
    bits_stored = planes[0].pixel_format.bits_stored
    if n_short:
        text = f"values of {n_short} slices need more than Bits Stored ({bits_stored}); all bits are read there"
        return (Remark(RemarkCode.BITS_STORED_TOO_FEW, text),)
    return (
        Remark(
            RemarkCode.UNUSED_BITS_SET,
            f"{n_odd} pixels have bits set above Bits Stored ({bits_stored}); they are ignored",
        ),
    )

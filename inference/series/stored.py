"""Turn decoded words into stored values: select the stored bits, and find pixels that are padding.

Padding is outside the scanned region. It is compared with the whole word before unused bits are removed, because
scanners use values for it that Bits Stored cannot represent (63536 in 12 bits is -2000 in 16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.series.missing import LOWEST_AIR_HU
from inference.series.pixel_format import PaddingRange, PixelFormat
from inference.series.planes import Plane

Integers = NDArray[np.integer]
Values = Integers | NDArray[np.floating]
Mask = NDArray[np.bool_]

# Padding below this is air already; the models' own rule for it is in inference.ct_padding.
HIGHEST_AIR_HU = LOWEST_AIR_HU + 124.0  # -900
WRAPPED_RATIO = 2.0  # times as rough where values run over Bits Stored and begin again at 0


@dataclass(frozen=True, slots=True, eq=False)
class StoredPlane:
    """One frame.

    Attributes
    ----------
    values
        (row, column) integers or floats.
    padding
        Pixels that are no measurement; None where there is none.
    n_odd
        Pixels with bits set above Bits Stored, not counting padding.
    are_bits_short
        Those bits belong to the values, whatever Bits Stored says.
    """

    values: Values
    padding: Mask | None = None
    n_odd: int = 0
    are_bits_short: bool = False


def stored_plane(words: Values, plane: Plane) -> StoredPlane:
    """Take the bits that count out of the decoded words, and find the padding among them."""
    pixel_format, padding_range = plane.pixel_format, plane.pixel_format.padding
    if words.dtype.kind == "f":
        is_padding = None if padding_range is None else _within(words, padding_range)
        return StoredPlane(words, is_padding if is_padding is not None and is_padding.any() else None)
    integers = cast("Integers", words)
    values, full = stored_bits(integers, pixel_format), _with_sign(integers, pixel_format.is_signed)
    odd = _odd_pixels(integers, values, full, pixel_format)
    padding = None if padding_range is None else _padding_of(values, full, odd, padding_range, plane)
    if odd is None:
        return StoredPlane(values, padding)
    if padding is not None:
        odd &= ~padding
    if _is_unnamed_padding(full, odd):
        return StoredPlane(values, odd if padding is None else padding | odd)
    n_odd = int(np.count_nonzero(odd))
    if n_odd and _roughness(full, odd) * WRAPPED_RATIO < _roughness(values, odd):
        return StoredPlane(full, padding, n_odd, are_bits_short=True)
    return StoredPlane(values, padding, n_odd)


def stored_bits(words: Integers, pixel_format: PixelFormat) -> Integers:
    """Take the low bits, with their sign."""
    unused = pixel_format.bits_allocated - pixel_format.bits_stored
    signed = _with_sign(words, pixel_format.is_signed)
    if not unused:
        return signed
    if pixel_format.is_signed:
        return np.asarray(np.right_shift(np.left_shift(signed, unused), unused))
    return np.asarray(np.bitwise_and(words, (1 << pixel_format.bits_stored) - 1))


def _with_sign(words: Integers, is_signed: bool) -> Integers:
    return words.view(f"i{words.itemsize}") if is_signed else words


def _odd_pixels(words: Integers, values: Integers, full: Integers, pixel_format: PixelFormat) -> Mask | None:
    """Pixels whose unused bits are neither 0 nor the sign; None where there are none, as nearly always."""
    if pixel_format.bits_allocated == pixel_format.bits_stored:
        return None
    odd = full != values
    if pixel_format.is_signed and odd.any():  # unused bits that are 0 are as good as the sign
        odd &= np.right_shift(words, pixel_format.bits_stored) != 0
    return np.asarray(odd) if odd.any() else None


def _padding_of(
    values: Integers, full: Integers, odd: Mask | None, padding_range: PaddingRange, plane: Plane
) -> Mask | None:
    """Pixels that are padding and must become air.

    A value that Bits Stored cannot hold is padding wherever it is. One that it can hold may be tissue as well, so that
    only what is connected with the frame's edge is taken, and only where it is not air already.
    """
    likely = _within(values, padding_range) | _within(full, padding_range)
    sure = None if odd is None else odd & likely
    lost = stored_bits(np.array([int(padding_range.low)]).astype(full.dtype), plane.pixel_format)[0]
    if lost != padding_range.low:  # a codec may have dropped the upper bits
        likely |= values == lost
    if not likely.any():
        return None
    measured = values * plane.rescale_slope + plane.rescale_intercept
    likely &= measured > HIGHEST_AIR_HU if plane.is_ct else measured != 0
    padding = _connected_with_edge(likely)
    if sure is not None:
        padding |= sure
    return padding if padding.any() else None


def _within(values: Values, padding_range: PaddingRange) -> Mask:
    return np.asarray((values >= padding_range.low) & (values <= padding_range.high))


def _connected_with_edge(mask: Mask) -> Mask:
    edge = np.zeros_like(mask)
    for side in (edge[0], edge[-1], edge[:, 0], edge[:, -1]):
        side[:] = True
    edge &= mask
    return np.asarray(ndimage.binary_propagation(edge, mask=mask)) if edge.any() else edge


def _is_unnamed_padding(full: Integers, odd: Mask) -> bool:
    """Whether all odd pixels hold one value and fill the frame's corners: padding, though the header has no word."""
    if not odd[:: max(1, odd.shape[0] - 1), :: max(1, odd.shape[1] - 1)].all() or odd.all():
        return False
    found = full[odd]
    return bool(found.min() == found.max())


def _roughness(values: Integers, where: Mask) -> float:
    """Sum of the steps between neighbours of which at least one is in ``where``."""
    wide = values.astype(np.float64)
    total = 0.0
    for axis in (0, 1):
        before, after = (np.take(where, range(first, where.shape[axis] - 1 + first), axis) for first in (0, 1))
        total += float(np.abs(np.diff(wide, axis=axis))[before | after].sum())
    return total

"""How the pixels of an instance are stored: sizes, bits, and what is no measurement among them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pydicom import Dataset

from inference.series.errors import PixelFormatError
from inference.series.instances import Instance
from inference.series.limits import MAX_PLANE_PIXELS, MAX_VOXELS
from inference.series.numbers import numbers_at

INTEGER_PIXEL_DATA = 0x7FE00010
FLOAT_PREFIXES = {0x7FE00008: "Float", 0x7FE00009: "DoubleFloat"}  # of attributes, by the tag of the pixel data
INTEGER_BITS, FLOAT_BITS = (8, 16, 32), (32, 64)


@dataclass(frozen=True, slots=True)
class PaddingRange:
    """Pixel Padding Value and Range Limit (PS3.3 C.7.5.1.1.2), both inclusive, as the words of the frame are read."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the frames of an instance are stored (PS3.3 C.7.6.3); ``n_frames`` is 0 where that is not said."""

    rows: int
    columns: int
    n_frames: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    padding: PaddingRange | None = None


def read_pixel_format(instance: Instance) -> PixelFormat:
    """Check sizes and bits before anything is allocated; raises ``PixelFormatError``."""
    ds, name = instance.header, instance.name
    values = {}
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        values[keyword] = _whole_number(ds, keyword, None, name)
    bits_allocated = values["BitsAllocated"]
    bits_stored = _whole_number(ds, "BitsStored", bits_allocated, name)
    n_frames = _whole_number(ds, "NumberOfFrames", 0, name)
    is_float = instance.pixel_data is not None and instance.pixel_data.tag != INTEGER_PIXEL_DATA
    if is_float:
        bits_stored = bits_allocated  # the attribute has no meaning (PS3.3 C.7.6.24)
    if bits_allocated not in (FLOAT_BITS if is_float else INTEGER_BITS) or not 0 < bits_stored <= bits_allocated:
        raise PixelFormatError(name, f"{bits_stored} bits stored in {bits_allocated}")
    high_bit = bits_stored - 1 if is_float else _whole_number(ds, "HighBit", bits_stored - 1, name)
    if high_bit != bits_stored - 1:
        raise PixelFormatError(name, f"High Bit {high_bit}, expected {bits_stored - 1}")
    is_signed = _whole_number(ds, "PixelRepresentation", 0, name) == 1
    pixel_format = PixelFormat(values["Rows"], values["Columns"], n_frames, bits_allocated, bits_stored, is_signed)
    return bounded(replace(pixel_format, padding=_padding_range(instance, pixel_format)), name)


def bounded(pixel_format: PixelFormat, name: str) -> PixelFormat:
    """The same, refused where it is empty or larger than is read."""
    n_pixels, n_frames = pixel_format.rows * pixel_format.columns, pixel_format.n_frames
    are_positive = pixel_format.rows > 0 and pixel_format.columns > 0 and n_frames >= 0
    if not are_positive or n_pixels > MAX_PLANE_PIXELS or n_pixels * n_frames > MAX_VOXELS:
        raise PixelFormatError(name, f"{pixel_format.rows} x {pixel_format.columns} pixels, {n_frames} frames")
    return pixel_format


def _whole_number(ds: Dataset, keyword: str, default: int | None, name: str) -> int:
    """A whole number; ``default`` where the attribute is absent or empty."""
    try:
        numbers = numbers_at(ds, keyword)
    except ValueError as error:
        raise PixelFormatError(name, f"{keyword} is not a whole number") from error
    if not numbers and default is not None:
        return default
    if len(numbers) != 1 or not numbers[0].is_integer():
        raise PixelFormatError(name, f"{keyword} is not a whole number")
    return int(numbers[0])


def _padding_range(instance: Instance, pixel_format: PixelFormat) -> PaddingRange | None:
    """What the header calls padding; None where it says nothing that can be used."""
    header, pixel_data = instance.header, instance.pixel_data
    prefix = FLOAT_PREFIXES.get(0 if pixel_data is None else pixel_data.tag, "")
    try:
        found = [numbers_at(header, f"{prefix}PixelPadding{name}") for name in ("Value", "RangeLimit")]
    except ValueError:
        return None
    limits = [numbers[0] for numbers in found if len(numbers) == 1 and math.isfinite(numbers[0])]
    if not limits or not found[0]:
        return None
    if not prefix:
        limits = [_as_word(limit, pixel_format) for limit in limits]
        if max(limits) - min(limits) > 2.0 ** (pixel_format.bits_stored - 1):  # half of all values: a mistake
            limits = limits[:1]
    return PaddingRange(min(limits), max(limits))


def _as_word(number: float, pixel_format: PixelFormat) -> float:
    """A number whose VR (US or SS) may have the wrong sign, as the words of the frame are read."""
    size = 1 << pixel_format.bits_allocated
    word = int(number) % size
    return float(word - size if pixel_format.is_signed and word >= size // 2 else word)

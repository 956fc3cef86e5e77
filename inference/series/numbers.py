"""Numbers out of a dataset, whatever value representation they came with.

Senders and anonymisers write Pixel Spacing as UT, Rows as UN, or a decimal comma. The text or the bytes still say which
number was meant, so they are read, and only what holds no number is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException
from pydicom.tag import BaseTag, Tag

BINARY: Mapping[str, str] = MappingProxyType(
    {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8", "UV": "u8", "SV": "i8", "US or SS": "u2"}
)
BLANK = " \0\t\r\n"


@cache
def tag_of(keyword: str) -> BaseTag:
    """Tag of an attribute of the standard; looking it up takes longer than reading the attribute."""
    return Tag(keyword)


def numbers_at(ds: Dataset, keyword: str) -> tuple[float, ...]:
    """Values of an attribute as numbers; empty where it is absent or empty.

    Raises
    ------
    ValueError
        The value is neither a number nor a list of them.
    """
    tag = tag_of(keyword)
    if tag not in ds:
        return ()
    try:
        value = ds[tag].value
    except (ValueError, TypeError, OverflowError, NotImplementedError, BytesLengthException):  # not what the VR says
        unread = ds.get_item(tag)
        value = unread.value if isinstance(unread, RawDataElement) else None
    if isinstance(value, bytes):
        return _numbers_in_bytes(value, dictionary_VR(tag))
    return numbers_in(value)


def numbers_in(value: object) -> tuple[float, ...]:
    """Value of an attribute as numbers: a number, a text with backslashes, or a list of either."""
    if value is None:
        return ()
    if isinstance(value, str):
        text = value.strip(BLANK)
        return tuple(_number_in(part) for part in text.split("\\")) if text else ()
    if isinstance(value, int | float):
        return (float(value),)
    if isinstance(value, Iterable) and not isinstance(value, bytes | Dataset):
        return tuple(number for one in value for number in numbers_in(one))
    return numbers_in(str(value))


def _number_in(text: str) -> float:
    """One number in text; a decimal comma is a point, since nothing else can be meant (PS3.5 6.2, DS)."""
    text = text.strip(BLANK)
    if "_" in text:  # Python's own way to write 1_000
        raise ValueError("no number")
    return float(text.replace(",", ".") if "." not in text else text)


def _numbers_in_bytes(octets: bytes, vr: str) -> tuple[float, ...]:
    """Numbers of an attribute that came as bytes: of its own VR where that is binary, else text."""
    layout = np.dtype("<" + BINARY[vr]) if vr in BINARY else None
    if layout is not None and octets and len(octets) % layout.itemsize == 0:
        return tuple(float(number) for number in np.frombuffer(octets, layout))
    return numbers_in(octets.decode("ascii"))

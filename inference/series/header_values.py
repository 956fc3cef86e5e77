"""Read values of a frame's header: standard attributes and vendors' private ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.values import convert_SQ

from inference.series.numbers import numbers_at, tag_of

Places = tuple[Dataset, ...]  # where a frame's attributes stand, the nearer first

# Manufacturers whose private creators do not begin as their name does.
MANUFACTURERS: Mapping[str, tuple[str, ...]] = MappingProxyType({"Image Private Header": ("UIH", "UNITED IMAGING")})


def first_value(places: Places, keyword: str) -> Any:  # noqa: ANN401  # whatever the VR says
    """Return the value of ``keyword`` from the first of several datasets that has one."""
    tag = tag_of(keyword)
    for ds in places:
        if tag in ds:
            value = ds[tag].value
            if value is not None and value != "":
                return value
    return None


def first_numbers(places: Places, keyword: str) -> tuple[float, ...]:
    """Return the numbers in the first dataset that has a value, whatever its VR; raise ValueError for other values."""
    return next((numbers for ds in places if (numbers := numbers_at(ds, keyword))), ())


def first_number(places: Places, keyword: str) -> float | None:
    """Return one finite number, or None."""
    try:
        numbers = first_numbers(places, keyword)
    except ValueError:
        return None
    return numbers[0] if len(numbers) == 1 and math.isfinite(numbers[0]) else None


def finite_number(value: Any) -> float | None:  # noqa: ANN401  # whatever the VR says
    """Return the value as a finite number, or None."""
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def several_numbers(value: Any, byte_format: str | None = None) -> tuple[float, ...]:  # noqa: ANN401
    """Return the finite numbers of a value with one or several; empty if one of them is not a finite number.

    A private attribute in implicit VR may come as bytes: text, or whole numbers of ``byte_format`` (numpy's).
    """
    if isinstance(value, bytes):
        if byte_format is not None:
            return tuple(float(n) for n in np.frombuffer(value[: len(value) // 2 * 2], byte_format))
        value = value.rstrip(b"\0 ").decode("latin-1").split("\\")
    if value is None or value == "":
        return ()
    values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    numbers = [finite_number(one) for one in values]
    return tuple(n for n in numbers if n is not None) if None not in numbers else ()


def private_value(places: Places, group: int, creator: str, element: int) -> Any:  # noqa: ANN401
    """Return the value of a vendor's attribute from the first dataset that has one, or None.

    It is also found where an anonymiser removed the private creator but left its elements, in the usual block.
    """
    for ds in places:
        try:
            return ds.private_block(group, creator)[element].value
        except KeyError:
            pass
        tag = Tag(group, 0x1000 + element)
        if tag in ds and Tag(group, 0x0010) not in ds and _is_by(ds, creator):
            return ds[tag].value
    return None


def private_items(places: Places, group: int, creator: str, element: int) -> Sequence[Dataset]:
    """Return the items of a vendor's sequence; empty if there is none.

    With VR UN or in implicit VR the value is bytes (PS3.5 6.2.2), whose nesting was already limited when the header was
    scanned.
    """
    value = private_value(places, group, creator, element)
    if isinstance(value, bytes) and value:
        value = convert_SQ(value, is_implicit_VR=True, is_little_endian=True)
    return cast("Sequence[Dataset]", value) if isinstance(value, DicomSequence) else ()


def _is_by(ds: Dataset, creator: str) -> bool:
    """Whether the manufacturer is the one who uses this private creator."""
    prefixes = MANUFACTURERS.get(creator, (creator[:2].upper(),))
    return str(ds.get("Manufacturer") or "").upper().startswith(prefixes)

"""Changes to instances of a series, as scanners and archives make them, and worse."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydicom import Dataset

from tests.factories import EncodedInstance, SyntheticSeries, uid_of


def with_one(series: SyntheticSeries, change: Callable[[bytes], bytes]) -> list[EncodedInstance]:
    """The series with the bytes of one instance in the middle changed."""
    middle = len(series) // 2
    changed = EncodedInstance(series[middle].name, change(series[middle].part10))
    return [*series[:middle], changed, *series[middle + 1 :]]


def with_edit(series: SyntheticSeries, edit: Callable[[Dataset], None]) -> list[EncodedInstance]:
    middle = len(series) // 2
    return [*series[:middle], series[middle].edited(edit), *series[middle + 1 :]]


def moved(by_mm: dict[int, Sequence[float]]) -> Callable[[Dataset, int], None]:
    def edit(ds: Dataset, index: int) -> None:
        position = np.array(ds.ImagePositionPatient, dtype=float) + by_mm.get(index, (0.0, 0.0, 0.0))
        ds.ImagePositionPatient = [f"{value:.6g}" for value in position]

    return edit


def setting(**values: Any) -> Callable[[Dataset, int], None]:
    return lambda ds, _: ds.update(values)


def setting_now(**values: Any) -> Callable[[Dataset], None]:
    return lambda ds: ds.update(values)


def without(*keywords: str) -> Callable[[Dataset, int], None]:
    def edit(ds: Dataset, _: int) -> None:
        for keyword in keywords:
            delattr(ds, keyword)

    return edit


def without_now(keyword: str) -> Callable[[Dataset], None]:
    return lambda ds: delattr(ds, keyword)


def text(keyword: str, value: str) -> Callable[[Dataset, int], None]:
    """A value of the right VR that is no such value."""

    def edit(ds: Dataset, _: int) -> None:
        ds[keyword]._value = value  # pydicom would refuse to set it

    return edit


def wrong_vr(keyword: str, vr: str, value: str) -> Callable[[Dataset, int], None]:
    """Another VR than the standard's, with text in it."""

    def edit(ds: Dataset, _: int) -> None:
        tag = ds[keyword].tag
        del ds[tag]
        ds.add_new(tag, vr, value.split("\\"))

    return edit


def frame_of_reference_by_slice(ds: Dataset, index: int) -> None:
    ds.FrameOfReferenceUID = uid_of("of slice", index % 2)


def deep_sequence(part10: bytes) -> bytes:
    """Sequences in sequences, before everything else but the UIDs that an index needs."""
    opened = struct.pack("<HH2sHI", 0x0041, 0x1010, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closed = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return before_pixels(part10, opened * 500 + closed * 500)


def many_items(part10: bytes) -> bytes:
    """A private sequence of a hundred thousand empty items."""
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 100_000
    return before_pixels(part10, struct.pack("<HH2sHI", 0x0041, 0x1010, b"SQ", 0, len(items)) + items)


def before_pixels(part10: bytes, element: bytes) -> bytes:
    at = part10.index(b"\xe0\x7f\x10\x00OW")
    return part10[:at] + element + part10[at:]

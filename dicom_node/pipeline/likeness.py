"""Compare two contents of one SOP Instance UID: which attributes differ, by name, and whether the pixels do.

Two encodings of one content are no conflict: an archive may send in JPEG-LS what it sent uncompressed before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import BinaryIO, Final

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.tag import BaseTag, Tag

from dicom_node.errors import NodeError
from dicom_node.store import ConflictRow, Store
from inference.series.errors import UnsuitableObjectError
from inference.series.instances import read_instance, reading
from inference.series.pixels import Words, decoded_words, encoded_frames
from inference.series.planes import planes_of
from part10.inflate import bounded_for_pydicom
from part10.limits import MAX_INFLATED_BYTES

log = logging.getLogger(__name__)

MAX_NAMES: Final = 100
MAX_BYTES: Final = 2**29  # of one content; larger ones are for a person to compare
NOT_COMPARED: Final = "(not compared)"
_PIXEL_TAGS: Final = (Tag("PixelData"), Tag("FloatPixelData"), Tag("DoubleFloatPixelData"))


@dataclass(frozen=True, slots=True)
class _Bytes:
    name: str
    data: bytes

    def open(self) -> BinaryIO:
        return BytesIO(self.data)


def compare_due(store: Store, now: Callable[[], datetime], *, at_most: int = 50) -> int:
    """Compare conflicts that nobody has compared or settled; return how many were the same content after all.

    Called by the scheduler: the sender got its answer long before, so decoding pixels costs no association its time.
    """
    n_same = 0
    for row in store.conflicts.to_compare(limit=at_most):
        names = differences_of(store, row)
        if store.conflicts.note_differences(row.id, names, now()):
            log.info("a second content is the first in another encoding", extra={"conflict": row.id})
            n_same += 1
    return n_same


def differences_of(store: Store, row: ConflictRow) -> tuple[str, ...]:
    """Return the names of what differs between the contents of a conflict; never a value."""
    if row.stored_digest is None:
        return (NOT_COMPARED,)
    try:
        contents = [_read(store, digest) for digest in (row.stored_digest, row.digest)]
    except NodeError:
        return (NOT_COMPARED,)
    if None in contents:
        return (NOT_COMPARED,)
    first, other = (content for content in contents if content is not None)
    return differing_names(first, other)


def differing_names(first: bytes, other: bytes) -> tuple[str, ...]:
    """Return keywords or tags of attributes that differ between two Part 10 files, nested ones as ``A > B``.

    ``PixelData`` is among them if the decoded pixels differ or cannot be decoded. Padding, group lengths, value
    representations and file meta information do not count.
    """
    try:
        with reading("a content of a conflict"):
            one, two = (
                dcmread(bounded_for_pydicom(BytesIO(data), max_inflated_bytes=MAX_INFLATED_BYTES))
                for data in (first, other)
            )
            names = list(dict.fromkeys(_differing(one, two, "")))[:MAX_NAMES]
            is_same = _encoded_pixels(one) == _encoded_pixels(two)
    except UnsuitableObjectError:
        return (NOT_COMPARED,)
    if not is_same and not _same_pixels(first, other):
        names.append("PixelData")
    return tuple(names)


def _read(store: Store, digest: str) -> bytes | None:
    with store.objects.open(digest) as file:
        data = file.read(MAX_BYTES + 1)
    return data if len(data) <= MAX_BYTES else None


def _differing(one: Dataset, two: Dataset, within: str) -> Iterator[str]:
    for tag in sorted({*one.keys(), *two.keys()}):
        if tag.element == 0 or tag in _PIXEL_TAGS:
            continue
        name = f"{within}{_name(tag)}"
        if tag not in one or tag not in two:
            yield name
            continue
        left, right = one[tag], two[tag]
        if left.VR == "SQ" and right.VR == "SQ":
            if len(left.value) != len(right.value):
                yield name
            for left_item, right_item in zip(left.value, right.value, strict=False):
                yield from _differing(left_item, right_item, f"{name} > ")
        elif _plain(left) != _plain(right):
            yield name


def _plain(element: DataElement) -> bytes:
    """Return a value without its padding, the same in every value representation of text."""
    value = element.value
    if isinstance(value, bytes):
        return value.rstrip(b"\0 ")
    if value is None:
        return b""
    parts = value if element.VM > 1 else [value]
    return "\\".join(str(part) for part in parts).strip().encode("utf-8", "replace")


def _encoded_pixels(ds: Dataset) -> list[object]:
    """Return the pixel data as encoded, and how; equal ones need not be decoded."""
    found: list[object] = [ds[tag].value for tag in _PIXEL_TAGS if tag in ds]
    return [*found, ds.file_meta.TransferSyntaxUID] if found else []


def _same_pixels(first: bytes, other: bytes) -> bool:
    try:
        left, right = read_instance(_Bytes("first", first)), read_instance(_Bytes("other", other))
        plane, counterpart = next(planes_of(left)), next(planes_of(right))
        frames, others = encoded_frames(left, plane.pixel_format), encoded_frames(right, counterpart.pixel_format)
        if len(frames) != len(others):
            return False
        used_bits = (1 << plane.pixel_format.bits_stored) - 1  # above them there is a sign, or nothing
        for frame, counter_frame in zip(frames, others, strict=True):
            words, counter_words = decoded_words(frame, plane), decoded_words(counter_frame, counterpart)
            if not np.array_equal(_of_pixels(words, used_bits), _of_pixels(counter_words, used_bits)):
                return False
    except (UnsuitableObjectError, StopIteration):
        return False
    return True


def _of_pixels(words: Words, used_bits: int) -> Words:
    return np.bitwise_and(words, used_bits) if words.dtype.kind == "u" else words


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})"

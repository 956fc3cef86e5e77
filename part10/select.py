"""Find selected elements of an encoded dataset in one pass, in time proportional to its bytes (PS3.5 7.1)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from part10.errors import CutShortError, TooManyElementsError
from part10.limits import MAX_ELEMENTS
from part10.walk import DELIMITER_BYTES, UNDEFINED_LENGTH, Walker


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected elements that were found."""

    values: dict[int, bytes]  # tag → value as encoded
    is_complete: bool  # all tags up to the last wanted one were passed, or the bytes ended after an element


def select_elements(
    encoded: bytes, wanted: Collection[int], last_tag: int, *, is_implicit_vr: bool, is_little_endian: bool
) -> Selection:
    """Find top-level elements with the ``wanted`` tags, and stop at the first tag after ``last_tag``.

    Raises
    ------
    NotADatasetError
        The bytes are not a dataset; `CutShortError` if they only end too early.
    TooManyElementsError
        There are more top-level elements than `part10.limits` allow.
    """
    walker = Walker(encoded, "<" if is_little_endian else ">", is_lenient=True)
    values: dict[int, bytes] = {}
    position, end = 0, len(encoded)
    for _ in range(MAX_ELEMENTS):
        if position >= end:
            return Selection(values, is_complete=position == end)
        tag, vr, begin, n_bytes = walker.element(position, is_implicit_vr)
        if tag > last_tag:
            return Selection(values, is_complete=True)
        if n_bytes == UNDEFINED_LENGTH:
            position = walker.sequence_end(begin, None, is_implicit_vr or vr == b"UN")
            if tag in wanted:
                values[tag] = encoded[begin : position - DELIMITER_BYTES]
            continue
        position = begin + n_bytes
        if tag in wanted:
            if position > end:
                raise CutShortError(f"element {tag:08X} of {n_bytes} bytes at {begin} in {end}")
            values[tag] = encoded[begin:position]
    raise TooManyElementsError(f"more than {MAX_ELEMENTS} elements up to {tag:08X}")

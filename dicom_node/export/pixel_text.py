"""Bytes of Pixel Data that are not pixels: what follows the last pixel, and the headers of compressed frames.

Pixels themselves are not searched for words: four letters occur in any compressed image by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom import Dataset
from pydicom.encaps import generate_fragments
from pydicom.uid import UID

from part10.damage import PYDICOM_ERRORS

_JPEG_START, _JPEG_DATA, _JPEG_END = 0xFFD8, 0xFFDA, 0xFFD9  # ITU-T T.81 B.1.1.3
_JPEG_2000_START, _JPEG_2000_DATA = 0xFF4F, 0xFF90  # ITU-T T.800 A.2
_WITHOUT_LENGTH: Final = frozenset({_JPEG_START, _JPEG_2000_START, *range(0xFFD0, 0xFFD8), 0xFF01})
_MAX_SEGMENTS: Final = 4096


def bytes_that_are_no_pixels(ds: Dataset, pixels: bytes) -> Iterator[bytes]:
    """Yield the parts of an encoded Pixel Data that can hold text.

    Parameters
    ----------
    ds
        The dataset; its file meta information says whether the pixels are compressed.
    pixels
        Encoded value of Pixel Data, Float Pixel Data or Double Float Pixel Data.
    """
    if UID(ds.file_meta.TransferSyntaxUID).is_encapsulated:
        try:
            for fragment in generate_fragments(pixels):
                yield from _around_the_pixels(fragment)
        except PYDICOM_ERRORS:  # no items in it, so nothing shows where pixels begin
            yield pixels
        return
    yield bytes_after_pixels(ds, pixels)


def bytes_after_pixels(ds: Dataset, pixels: bytes) -> bytes:
    """Return what follows the last pixel of a Pixel Data that is not compressed."""
    n_pixels = 1
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"):
        n_pixels *= int(ds.get(keyword) or 0)
    n_bytes = (n_pixels * int(ds.get("NumberOfFrames") or 1) + 7) // 8
    if str(ds.get("PhotometricInterpretation")) == "YBR_FULL_422":
        n_bytes = n_bytes * 2 // 3
    return pixels[n_bytes:]


def _around_the_pixels(fragment: bytes) -> Iterator[bytes]:
    """Yield what stands before and after the entropy-coded data of a JPEG, JPEG-LS or JPEG 2000 fragment."""
    start = int.from_bytes(fragment[:2], "big")
    if start not in (_JPEG_START, _JPEG_2000_START):
        return
    place = 2
    for _ in range(_MAX_SEGMENTS):
        marker = int.from_bytes(fragment[place : place + 2], "big")
        if marker < 0xFF01 or marker in (_JPEG_DATA, _JPEG_END, _JPEG_2000_DATA):
            break
        place += 2
        if marker not in _WITHOUT_LENGTH:
            place += int.from_bytes(fragment[place : place + 2], "big")
    yield fragment[:place]
    end = fragment.rfind(_JPEG_END.to_bytes(2, "big"))
    if end >= 0:
        yield fragment[end + 2 :]

"""Refuse Pixel Data that hold more than pixels: overlays in unused bits, and bytes after the last pixel."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID

from dicom_node.export.errors import NotExportableError
from dicom_node.export.pixel_text import bytes_after_pixels

_PADDING_KEYWORDS: Final = ("PixelPaddingValue", "PixelPaddingRangeLimit")


def check_pixel_bytes(source: Dataset) -> None:
    """Raise if Pixel Data hold more than pixels and padding.

    Raises
    ------
    NotExportableError
        An overlay is in unused bits (PS3.5 8.1.1, retired), or something follows the last pixel.
    """
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0102) in source and source[group, 0x0102].value:
            raise NotExportableError(
                "overlay-in-pixels",
                f"overlay group {group:04X} is in unused bits of Pixel Data, from where it is not removed",
            )
    syntax = getattr(getattr(source, "file_meta", None), "TransferSyntaxUID", UID(""))
    if UID(syntax).is_compressed or not isinstance(source.get("PixelData"), bytes):
        return
    after = bytes_after_pixels(source, source.PixelData)
    if len(after) > 1 and any(after):
        raise NotExportableError(
            "bytes-after-pixels",
            f"{len(after)} bytes follow the last pixel in Pixel Data; nobody can tell what they say",
        )
    _check_unused_bits(source)


def _check_unused_bits(source: Dataset) -> None:
    stored, high = source.get("BitsStored"), source.get("HighBit")
    if source.get("BitsAllocated") != 16 or not stored or stored >= 16 or high is None or not stored - 1 <= high <= 15:
        return
    shift = high - stored + 1
    values: bytes = source.PixelData
    words = np.frombuffer(values, dtype="<u2" if source.is_little_endian else ">u2", count=len(values) // 2)
    unused = np.uint16(0xFFFF ^ (((1 << stored) - 1) << shift))
    if not np.any(words & unused):
        return
    suspect = words[(words & unused) != 0]
    is_signed = source.get("PixelRepresentation") == 1 and shift == 0
    if is_signed:
        extended = (suspect & unused) == unused
        suspect = suspect[~(extended & ((suspect >> (stored - 1)) & 1 == 1))]
    if not np.all(_is_padding(source, suspect)):
        raise NotExportableError(
            "unused-bits", f"bits beyond Bits Stored ({stored}) contain something that is neither sign nor padding"
        )


def _is_padding(source: Dataset, words: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Return which of the words are Pixel Padding Value, or within the range that Pixel Padding Range Limit ends."""
    declared = [int(source[one].value) & 0xFFFF for one in _PADDING_KEYWORDS if source.get(one) is not None]
    if not declared:
        return np.zeros(words.shape, dtype=np.bool_)
    return (words >= min(declared)) & (words <= max(declared))

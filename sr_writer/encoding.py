"""Datasets to explicit VR little endian bytes, without touching a value that came as bytes.

pydicom decodes raw elements of a dataset whose encoding it did not read itself, and encodes them again; a value that
does not decode would be lost. Here raw elements go out as they are, and everything else through pydicom.
"""

from __future__ import annotations

import struct

from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

_ITEM_TAG = (0xFFFE, 0xE000)


def encoded_element(tag: BaseTag, vr: str, value: bytes) -> RawDataElement:
    """Element whose value is written as these bytes, padded to even length."""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return RawDataElement(tag, vr, len(value), value, 0, False, True, True)


def character_sets_of(ds: Dataset) -> tuple[str, ...]:
    """Defined terms of Specific Character Set; empty where none was declared."""
    declared = ds.get("SpecificCharacterSet") or ()
    return (declared,) if isinstance(declared, str) else tuple(declared)


def encode_dataset(ds: Dataset) -> bytes:
    """The elements of ``ds`` in ascending order; sequences and items with explicit lengths."""
    return _encode(ds, convert_encodings(list(character_sets_of(ds)) or None))


def encode_sequence(tag: BaseTag, items: list[Dataset]) -> RawDataElement:
    """Sequence as an element to be written as it is; its items hold no text beyond ASCII."""
    return _encoded_sequence(tag, items, convert_encodings(None))


def _encode(ds: Dataset, encodings: list[str]) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    for tag in sorted(ds.keys()):
        element: DataElement | RawDataElement | None = ds.get_item(tag)
        if isinstance(element, DataElement) and element.VR == "SQ":
            element = _encoded_sequence(tag, element.value or [], encodings)
        if element is not None:
            write_data_element(buffer, element, encodings)
    return buffer.getvalue()


def _encoded_sequence(tag: BaseTag, items: list[Dataset], encodings: list[str]) -> RawDataElement:
    parts: list[bytes] = []
    for item in items:
        own = character_sets_of(item)
        encoded = _encode(item, convert_encodings(list(own)) if own else encodings)
        parts.extend((struct.pack("<HHL", *_ITEM_TAG, len(encoded)), encoded))
    return encoded_element(tag, "SQ", b"".join(parts))

"""Encode datasets in explicit VR little endian, without changing values that are given as bytes.

pydicom decodes and re-encodes raw elements of a dataset that it did not read itself, which would lose a value that
cannot be decoded. Here raw elements are written unchanged, and all others by pydicom.
"""

from __future__ import annotations

import struct

from pydicom.charset import convert_encodings, python_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

_ITEM_TAG = (0xFFFE, 0xE000)


def encoded_element(tag: BaseTag, vr: str, value: bytes) -> RawDataElement:
    """Return an element whose value is written as exactly these bytes, padded to even length."""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return RawDataElement(tag, vr, len(value), value, 0, False, True, True)


def character_sets_of(ds: Dataset) -> tuple[str, ...]:
    """Return the defined terms of Specific Character Set; empty if none is declared."""
    declared = ds.get("SpecificCharacterSet") or ()
    return (declared,) if isinstance(declared, str) else tuple(declared)


def encode_dataset(ds: Dataset) -> bytes:
    """Encode the elements of ``ds`` in ascending order; sequences and items have explicit lengths (PS3.5 7.5)."""
    return _encode(ds, _encodings_of(character_sets_of(ds)))


def encode_sequence(tag: BaseTag, items: list[Dataset]) -> RawDataElement:
    """Return a sequence as an element that is already encoded; its items must not contain text beyond ASCII."""
    return _encoded_sequence(tag, items, convert_encodings(None))


def _encodings_of(character_sets: tuple[str, ...]) -> list[str]:
    """Return Python's names of character sets, without unknown terms: values in these are bytes already."""
    known = [term for term in character_sets if not term or term in python_encoding]
    return convert_encodings(known or None)


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
        encoded = _encode(item, _encodings_of(own) if own else encodings)
        parts.extend((struct.pack("<HHL", *_ITEM_TAG, len(encoded)), encoded))
    return encoded_element(tag, "SQ", b"".join(parts))

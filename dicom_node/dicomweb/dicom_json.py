"""Encode a dataset as a DICOM JSON object (PS3.18 F), bulk values by reference.

Most elements have the same bytes in every instance of a series, and pydicom takes 50 µs to convert one. `Memo` keeps
the encoded members, so that a series costs little more than its first instance.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from part10.pixel_data import PixelDataLocation

# Values of binary VRs beyond this are fetched on their own; PS3.18 leaves the choice to the server.
BULK_DATA_BYTES: Final = 1024
MEMO_BYTES: Final = 4 * 2**20
_MEMO_VALUE_BYTES: Final = 2**14

_BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
# Without a VR of its own, or as a sequence, an element is converted according to other elements of its dataset.
_DEPENDENT_VRS: Final = frozenset({None, "UN", "SQ"})
# pydicom derives an ambiguous VR (US or SS, OB or OW) from these.
_DECIDING_TAGS: Final = tuple(map(BaseTag, (0x00280100, 0x00280103, 0x00283002, 0x54001004)))
_CHARACTER_SET: Final = "00080005"
_UTF8: Final = b'{"vr":"CS","Value":["ISO_IR 192"]}'
_BULK_DATA_URI: Final = b'"BulkDataURI":"'

Members = dict[str, bytes]


class Memo:
    """Encoded members by all that they depend on, at most `MEMO_BYTES` of them; for one thread."""

    def __init__(self) -> None:
        self._members: dict[tuple[object, ...], bytes] = {}
        self._n_bytes = 0

        self.get = self._members.get

    def add(self, key: tuple[object, ...], member: bytes) -> bytes:
        """Keep a member and return it; forget all others if they have become too many."""
        self._n_bytes += 2 * len(member) + 200  # the key holds the element's bytes
        if self._n_bytes > MEMO_BYTES:
            self._members.clear()
            self._n_bytes = 0
        self._members[key] = member
        return member


def encode_dataset(ds: Dataset, pixel_data: PixelDataLocation | None, memo: Memo) -> bytes:
    """Return a dataset as a DICOM JSON object in which every BulkDataURI is relative: ``/7FE00010``.

    Group lengths are left out (PS3.18 F.2.2); the character set is UTF-8, as JSON is. Values that JSON cannot hold keep
    tag and VR only. The result is ASCII, so that text which is not valid Unicode still makes a valid answer.

    Parameters
    ----------
    ds
        Dataset without pixel data.
    pixel_data
        Location of the pixel data, if it is to be referred to.
    """
    context = tuple(_raw_value(ds, tag) for tag in _DECIDING_TAGS)
    character_set = ds.original_character_set
    characters = character_set if isinstance(character_set, str) else tuple(character_set)
    members: Members = {}
    for raw in ds.elements():
        tag = int(raw.tag)
        if tag & 0xFFFF == 0:
            continue
        name = f"{tag:08X}"
        if not isinstance(raw, RawDataElement) or raw.value is None or len(raw.value) > _MEMO_VALUE_BYTES:
            members[name] = _encoded(ds[raw.tag], name)
            continue
        key: tuple[object, ...] = (tag, raw.VR, raw.value, raw.is_little_endian, characters)
        if raw.VR in _DEPENDENT_VRS:
            key = (*key, raw.is_implicit_VR, context, _private_creator(ds, raw.tag))
        member = memo.get(key)
        if member is None:
            member = memo.add(key, _encoded(ds[raw.tag], name))
        members[name] = member
    if _CHARACTER_SET in members:
        members[_CHARACTER_SET] = _UTF8
    if pixel_data is not None:
        name = f"{pixel_data.tag:08X}"
        members[name] = _dumped({"vr": pixel_data.vr, "BulkDataURI": f"/{name}"})
    return b"{" + b",".join([b'"%s":%s' % (name.encode(), member) for name, member in members.items()]) + b"}"


def with_bulk_data_url(encoded: bytes, url: str) -> bytes:
    """Return an encoded dataset in which every BulkDataURI begins with ``url``.

    The replaced text appears nowhere else: within a value a quotation mark has a backslash in front of it.
    """
    return encoded.replace(_BULK_DATA_URI, _BULK_DATA_URI + _dumped(url)[1:-1])


def _encoded(element: DataElement, path: str) -> bytes:
    return _dumped(_member(element, f"/{path}"))


def _item_members(ds: Dataset, path: str) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for tag in sorted(ds.keys()):
        if tag.element != 0:
            name = f"{int(tag):08X}"
            members[name] = _member(ds[tag], f"{path}/{name}")
    if _CHARACTER_SET in members:
        members[_CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return members


def _member(element: DataElement, path: str) -> dict[str, Any]:
    if element.VR == "SQ":
        items = [_item_members(item, f"{path}/{number}") for number, item in enumerate(element.value or (), start=1)]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    if element.VR in _BULK_VRS and isinstance(element.value, bytes) and len(element.value) > BULK_DATA_BYTES:
        return {"vr": element.VR, "BulkDataURI": path}
    try:
        member = element.to_json_dict(None, BULK_DATA_BYTES)
    except (TypeError, ValueError, OverflowError):
        return {"vr": element.VR}
    # JSON has no word for infinity and not-a-number.
    if any(isinstance(value, float) and not math.isfinite(value) for value in member.get("Value", ())):
        return {"vr": element.VR}
    return member


def _raw_value(ds: Dataset, tag: BaseTag) -> object:
    """Return what can be compared of an element: its bytes, or its value once it is converted."""
    if tag not in ds:
        return None
    element = ds.get_item(tag)
    return element.value if isinstance(element, RawDataElement) else repr(element.value)


def _private_creator(ds: Dataset, tag: BaseTag) -> object:
    return _raw_value(ds, BaseTag(tag.group << 16 | tag.element >> 8)) if tag.is_private else None


def _dumped(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")

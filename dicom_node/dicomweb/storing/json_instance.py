"""Make an encoded dataset of a DICOM JSON object and its bulk data (PS3.18 F, PS3.5 7.1.2 and A.4)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.http_intake.errors import NotAnInstanceError
from dicom_node.http_intake.intake import Announced
from part10.damage import PYDICOM_ERRORS
from part10.limits import MAX_SEQUENCE_DEPTH
from part10.pixel_data import PIXEL_DATA_TAGS
from part10.walk import UNDEFINED_LENGTH

MAX_INNER_BULK_BYTES: Final = 16 * 2**20  # of one value within a sequence, which is held in memory
MAX_VALUE_BYTES: Final = 2**32 - 2
COPY_BYTES: Final = 2**20
_LONG_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UC", "UN", "UR", "UT", "SV", "UV"})
_VR: Final = re.compile(r"[A-Z]{2}")
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_TRANSFER_SYNTAX: Final = "00020010"
_AVAILABLE_TRANSFER_SYNTAX: Final = "00083002"
_SPECIFIC_CHARACTER_SET: Final = "00080005"
_ITEM: Final = struct.pack("<HH", 0xFFFE, 0xE000)
_END_OF_SEQUENCE: Final = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@dataclass(frozen=True, slots=True)
class BulkValue:
    """Bytes of one value in a file, in one or more pieces; these are frames if there is a transfer syntax."""

    file: BinaryIO
    pieces: tuple[tuple[int, int], ...]  # offset and length
    transfer_syntax_uid: str

    @property
    def n_bytes(self) -> int:
        """Sum of the lengths."""
        return sum(n_bytes for _, n_bytes in self.pieces)

    def chunks(self, piece: tuple[int, int]) -> Iterator[bytes]:
        """Yield the bytes of a piece."""
        offset, n_left = piece
        while n_left:
            self.file.seek(offset)
            chunk = self.file.read(min(n_left, COPY_BYTES))
            yield chunk
            offset, n_left = offset + len(chunk), n_left - len(chunk)


@dataclass(frozen=True, slots=True)
class JsonInstance:
    """An instance that was read, not yet encoded."""

    announced: Announced
    ds: Dataset
    bulk: dict[int, tuple[str, BulkValue]]  # values at the top level: tag → VR, bytes


def read_instance(document: object, find_bulk: Callable[[str], BulkValue]) -> JsonInstance:
    """Read a DICOM JSON object.

    Parameters
    ----------
    find_bulk
        Returns the bulk data of a URI, or raises `NotAnInstanceError`; nothing is ever fetched.

    Raises
    ------
    NotAnInstanceError
        It is no such object, or what it refers to is missing.
    """
    if not isinstance(document, dict):
        raise NotAnInstanceError("no DICOM JSON object")
    _check_members(document, 0)
    members = dict(document)
    bulk: dict[int, tuple[str, BulkValue]] = {}
    try:
        stated = _text(members.get(_TRANSFER_SYNTAX)) or _text(members.get(_AVAILABLE_TRANSFER_SYNTAX))
        for name in list(members):
            tag = int(name, 16)
            if tag >> 16 <= 0x0007 or tag & 0xFFFF == 0:
                del members[name]
            elif "BulkDataURI" in members[name]:
                member = members.pop(name)
                bulk[tag] = _checked_vr(member), find_bulk(str(member["BulkDataURI"]))
        if any(isinstance(member.get("Value"), list) for member in members.values()):
            members[_SPECIFIC_CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}  # JSON is UTF-8
        ds = Dataset.from_json(dict(sorted(members.items())), lambda _, __, uri: _inner_bulk(find_bulk(uri)))
        uids = [str(ds.get(keyword) or "") for keyword in ("SOPClassUID", "SOPInstanceUID")]
    except NotAnInstanceError:
        raise
    except PYDICOM_ERRORS as error:
        raise NotAnInstanceError("no DICOM JSON that can be read") from error
    return JsonInstance(Announced(uids[0], uids[1], _transfer_syntax(bulk, stated)), ds, bulk)


def _check_members(members: Mapping[object, object], depth: int) -> None:
    """Refuse what pydicom would only warn about: values of a wrong kind, and sequences too deep to be read again."""
    for name, member in members.items():
        if not isinstance(name, str) or not _TAG.fullmatch(name) or not isinstance(member, dict):
            raise NotAnInstanceError(f"{str(name)[:16]!r} is no attribute of DICOM JSON")
        vr, values = member.get("vr"), member.get("Value", [])
        if not isinstance(vr, str) or not _VR.fullmatch(vr):
            raise NotAnInstanceError(f"{name}: no VR of two letters")
        kinds = (dict,) if vr in {"SQ", "PN"} else (str, int, float)
        if not isinstance(values, list) or not all(value is None or isinstance(value, kinds) for value in values):
            raise NotAnInstanceError(f"{name}: values that are none of {vr}")
        if vr == "SQ":
            if depth >= MAX_SEQUENCE_DEPTH:
                raise NotAnInstanceError("sequences too deep")
            for item in values:
                _check_members(item or {}, depth + 1)


def write_instance(instance: JsonInstance, write: Callable[[bytes], object]) -> None:
    """Write the dataset: elements in the order of their tags, bulk values in pieces."""
    tags = sorted(instance.bulk)
    for first, last in zip([0, *tags], [*tags, 0xFFFFFFFF], strict=True):
        if first in instance.bulk:
            vr, value = instance.bulk[first]
            for piece in _element(first, vr, value):
                write(piece)
        some = Dataset()
        for element in instance.ds:
            if first < int(element.tag) < last:
                some.add(element)
        some.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding="ISO_IR 192")
        try:
            buffer = DicomBytesIO()
            buffer.is_little_endian, buffer.is_implicit_VR = True, False
            write_dataset(buffer, some, parent_encoding="utf8")
        except PYDICOM_ERRORS as error:
            raise NotAnInstanceError("a value does not fit its VR") from error
        write(buffer.getvalue())


def _element(tag: int, vr: str, value: BulkValue) -> Iterator[bytes]:
    if value.transfer_syntax_uid:
        yield struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, UNDEFINED_LENGTH)
        yield _ITEM + struct.pack("<I", 0)  # an empty offset table
        for piece in value.pieces:
            n_padding = piece[1] % 2
            yield _ITEM + struct.pack("<I", piece[1] + n_padding)
            yield from value.chunks(piece)
            yield bytes(n_padding)
        yield _END_OF_SEQUENCE
        return
    n_padding = value.n_bytes % 2
    if value.n_bytes + n_padding > MAX_VALUE_BYTES:
        raise NotAnInstanceError(f"bulk data of {value.n_bytes} bytes")
    yield struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, value.n_bytes + n_padding)
    for piece in value.pieces:
        yield from value.chunks(piece)
    yield bytes(n_padding)


def _transfer_syntax(bulk: dict[int, tuple[str, BulkValue]], stated: str) -> str:
    """Return the transfer syntax of the dataset: that of its compressed pixels, or explicit VR little endian."""
    compressed = {value.transfer_syntax_uid for _, value in bulk.values() if value.transfer_syntax_uid}
    if not compressed:
        return str(ExplicitVRLittleEndian)
    if any(value.transfer_syntax_uid and tag not in PIXEL_DATA_TAGS for tag, (_, value) in bulk.items()):
        raise NotAnInstanceError("images for what is no pixel data")
    # A media type stands for several transfer syntaxes; the document may say which one it is.
    return stated if stated and stated != ExplicitVRLittleEndian else compressed.pop()


def _inner_bulk(value: BulkValue) -> bytes:
    if value.n_bytes > MAX_INNER_BULK_BYTES:
        raise NotAnInstanceError(f"bulk data of {value.n_bytes} bytes within a sequence")
    return b"".join(chunk for piece in value.pieces for chunk in value.chunks(piece))


def _checked_vr(member: dict[str, Any]) -> str:
    vr = str(member.get("vr"))
    if vr not in _LONG_VRS:
        raise NotAnInstanceError("bulk data of a VR that has none")
    return vr


def _text(member: object) -> str:
    values = member.get("Value") if isinstance(member, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""

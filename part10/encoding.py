"""Detect the actual encoding of a dataset, regardless of its transfer syntax (PS3.5 7.1, 10, annex A).

Some senders negotiate one transfer syntax and send another: implicit VR in a context with explicit VR, or a dataset
that was not compressed. Only the beginning of the dataset is examined.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pydicom.config import IGNORE
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from part10.errors import Part10Error
from part10.inflate import inflate
from part10.walk import LONG_VRS, SHORT_VRS, UNDEFINED_LENGTH, Walker

_VRS: Final = LONG_VRS | SHORT_VRS
_MAX_FIRST_GROUP: Final = 0x00FF  # the first group of a dataset is 0008 or a little higher
_MAX_FIRST_LENGTH: Final = 0xFFFF  # of the first element, which is a group length, a character set or a UID
_INFLATED_BYTES: Final = 64
_PIXEL_DATA: Final = 0x7FE00010
_PIXEL_DATA_BYTES: Final = {True: b"\xe0\x7f\x10\x00", False: b"\x7f\xe0\x00\x10"}
_NATIVE: Final = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """The properties of a transfer syntax that are needed to read elements."""

    is_implicit_vr: bool
    is_little_endian: bool
    is_deflated: bool = False


EXPLICIT_LITTLE_ENDIAN: Final = Encoding(is_implicit_vr=False, is_little_endian=True)
_DECLARED: Final = {
    str(ImplicitVRLittleEndian): Encoding(is_implicit_vr=True, is_little_endian=True),
    str(ExplicitVRBigEndian): Encoding(is_implicit_vr=False, is_little_endian=False),
    str(DeflatedExplicitVRLittleEndian): Encoding(is_implicit_vr=False, is_little_endian=True, is_deflated=True),
}


class OtherEncodingError(Part10Error):
    """The dataset does not have the encoding of its transfer syntax, nor that of another one."""


def declared_encoding(transfer_syntax_uid: str) -> Encoding:
    """Return the encoding that the standard defines for a transfer syntax; for a private one this is a guess."""
    return _DECLARED.get(transfer_syntax_uid, EXPLICIT_LITTLE_ENDIAN)


def find_encoding(head: bytes) -> Encoding | None:
    """Return the encoding of a dataset that begins with ``head``; None if the bytes do not look like a dataset."""
    found = _find_plain(head)
    if found is not None:
        return found
    try:
        inflated = inflate(head, max_bytes=_INFLATED_BYTES)
    except Part10Error:
        return None
    if _find_plain(inflated) != EXPLICIT_LITTLE_ENDIAN:
        return None
    return Encoding(is_implicit_vr=False, is_little_endian=True, is_deflated=True)


def true_transfer_syntax(head: bytes, transfer_syntax_uid: str) -> tuple[str, Encoding]:
    """Return the transfer syntax that describes a dataset, and its encoding.

    Parameters
    ----------
    head
        The beginning of the dataset; pixel data are examined only if they begin within it.
    transfer_syntax_uid
        As negotiated or as in the file meta information.

    Returns
    -------
    str
        ``transfer_syntax_uid`` if the bytes agree with it or do not look like any encoding, or if it is private or
        unknown. Otherwise the uncompressed transfer syntax in which the bytes can be read.
    Encoding
        Encoding of the elements, as found.

    Raises
    ------
    OtherEncodingError
        Pixel data are compressed though the transfer syntax is not, or no transfer syntax has the elements' encoding.
    """
    declared = declared_encoding(transfer_syntax_uid)
    found = declared if _begins_as(head, declared) else find_encoding(head)
    if found is None:
        return transfer_syntax_uid, declared
    uid = UID(transfer_syntax_uid, validation_mode=IGNORE)  # pydicom would log a wrong one
    if uid.is_private or not uid.is_transfer_syntax:
        return transfer_syntax_uid, found
    is_encapsulated = None if found.is_deflated else _is_encapsulated(head, found, expected=uid.is_encapsulated)
    if not uid.is_encapsulated:
        if is_encapsulated:
            raise OtherEncodingError(f"compressed pixel data, but its transfer syntax is {uid.name}")
        return (transfer_syntax_uid if found == declared else _native(found, uid)), found
    if is_encapsulated is False:
        return _native(found, uid), found
    if found != declared:
        raise OtherEncodingError(f"not in explicit VR little endian, but its transfer syntax is {uid.name}")
    return transfer_syntax_uid, found


def _native(found: Encoding, declared: UID) -> str:
    """Return the uncompressed transfer syntax of an encoding."""
    if found.is_deflated:
        return str(DeflatedExplicitVRLittleEndian)
    uid = _NATIVE.get((found.is_implicit_vr, found.is_little_endian))
    if uid is None:
        raise OtherEncodingError(f"implicit VR big endian, but its transfer syntax is {declared.name}")
    return str(uid)


def _begins_as(head: bytes, encoding: Encoding) -> bool:
    return not encoding.is_deflated and _find_plain(head) == encoding


def _find_plain(head: bytes) -> Encoding | None:
    """Return the encoding of the first element; its byte order is the one in which its group is a small number."""
    if len(head) < 8:
        return None
    little, big = struct.unpack_from("<H", head)[0], struct.unpack_from(">H", head)[0]
    is_little_endian = little <= big
    if min(little, big) > _MAX_FIRST_GROUP:
        return None
    if head[4:6] in _VRS:
        return Encoding(is_implicit_vr=False, is_little_endian=is_little_endian)
    (n_bytes,) = struct.unpack_from("<I" if is_little_endian else ">I", head, 4)
    if n_bytes > _MAX_FIRST_LENGTH:
        return None
    return Encoding(is_implicit_vr=True, is_little_endian=is_little_endian)


def _is_encapsulated(head: bytes, encoding: Encoding, *, expected: bool) -> bool | None:
    """Whether the pixel data have an undefined length, so are compressed; None if they do not begin in ``head``."""
    at = head.find(_PIXEL_DATA_BYTES[encoding.is_little_endian])
    if at < 0:
        return None
    if _looks_encapsulated(head, at, encoding) is expected:
        return expected
    # An icon has pixel data too, and other values can contain the same bytes: walk through the elements to be certain.
    walker = Walker(head, "<" if encoding.is_little_endian else ">", is_lenient=True)
    position = 0
    try:
        while position < len(head):
            tag, vr, begin, n_bytes = walker.element(position, encoding.is_implicit_vr)
            if tag >= _PIXEL_DATA:
                return n_bytes == UNDEFINED_LENGTH if tag == _PIXEL_DATA else None
            if n_bytes == UNDEFINED_LENGTH:
                position = walker.sequence_end(begin, None, encoding.is_implicit_vr or vr == b"UN")
            else:
                position = begin + n_bytes
    except Part10Error:
        return None
    return None


def _looks_encapsulated(head: bytes, at: int, encoding: Encoding) -> bool:
    length_at = at + (4 if encoding.is_implicit_vr else 8)
    return head[length_at : length_at + 4] == b"\xff\xff\xff\xff"

"""The elements of a Part 10 file, unread, and where its pixel data begin: one pass over the bytes, without recursion.

Reading a header through pydicom takes several times as long as reading its pixels, and it unfolds every sequence on
the way. Here sequences are only walked through, so that their depth and number are known before anything unfolds them.
What does not look as the standard has it gives None: pydicom, which knows more ways to be wrong, has the last word.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from inference.series.errors import NestedTooDeeplyError, UnreadableError
from inference.series.limits import (
    MAX_ELEMENTS,
    MAX_HEADER_VALUE_BYTES,
    MAX_NESTED_ELEMENTS,
    MAX_SEQUENCE_DEPTH,
)

HEAD_BYTES = 2**15  # most headers are shorter
GROWTH = 8
PREAMBLE_BYTES = 128
PIXEL_DATA_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # float, double float, integers
FIRST_OVERLAY = 0x60000000
PIXEL_GROUP = 0x7FE0
TRAILING_PADDING_GROUP = 0xFFFC
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SEQUENCE_END_BYTES = 8
ITEM_BYTES = {"<": b"\xfe\xff\x00\xe0", ">": b"\xff\xfe\xe0\x00"}

# PS3.5 7.1.2: these are followed by two reserved bytes and a length of four bytes.
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
NAMES = {vr: vr.decode("ascii") for vr in LONG_VRS | SHORT_VRS}

Elements = dict[BaseTag, DataElement | RawDataElement]  # pydicom's type; here all are raw


class Place(NamedTuple):
    """Where the pixel data lie in the file; the length is as announced, maybe undefined."""

    tag: int
    begin: int
    n_bytes: int


class Header(NamedTuple):
    """What lies before the pixel data."""

    meta: Elements
    elements: Elements
    transfer_syntax_uid: str
    is_implicit_vr: bool
    is_little_endian: bool
    pixel_data: Place | None


class _ShortError(Exception):
    """The bytes at hand end within an element."""


class _UnusualError(Exception):
    """Not what the standard describes."""


def scan_part10(file: BinaryIO, head: bytes, n_bytes: int, name: str) -> Header | None:
    """Scan a file whose first bytes are ``head``, reading on from there as far as needed.

    Returns
    -------
    Header or None
        None where the file is not an orderly, undeflated Part 10 file.

    Raises
    ------
    UnsuitableObjectError
        More elements or a deeper nesting than any real header has.
    """
    data = head
    while True:
        try:
            return _Scan(data, n_bytes, name).header()
        except _ShortError:
            if len(data) >= n_bytes:
                return None
            more = file.read(min(n_bytes, GROWTH * len(data)) - len(data))
            if not more:  # shorter than its own size said
                return None
            data += more
        except (_UnusualError, struct.error):
            return None


@dataclass(slots=True)
class _Scan:
    """One attempt on the bytes at hand."""

    data: bytes
    n_bytes: int  # of the whole file
    name: str
    n_nested: int = 0

    def header(self) -> Header:
        """Meta information, then the dataset up to the pixel data."""
        if self.data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != b"DICM":
            raise _UnusualError
        begin = PREAMBLE_BYTES + 4
        if self.data[begin : begin + 8] != b"\x02\x00\x00\x00UL\x04\x00":
            raise _UnusualError
        end = begin + 12 + int.from_bytes(self.data[begin + 8 : begin + 12], "little")
        meta, at, _ = self.elements(begin, end, before=0x0001FFFF, is_implicit_vr=False, order="<")
        if at != end:
            raise _UnusualError
        uid = _transfer_syntax_uid(meta)
        is_implicit_vr, order = uid == ImplicitVRLittleEndian, ">" if uid == ExplicitVRBigEndian else "<"
        if is_implicit_vr and self.data[end + 4 : end + 6] in NAMES:  # explicit, whatever the meta information says
            raise _UnusualError
        elements, _, pixel_data = self.elements(
            end, self.n_bytes, before=0x0007FFFF, is_implicit_vr=is_implicit_vr, order=order
        )
        return Header(meta, elements, uid, is_implicit_vr, order == "<", pixel_data)

    def elements(
        self, at: int, end: int, *, before: int, is_implicit_vr: bool, order: str
    ) -> tuple[Elements, int, Place | None]:
        """Elements with tags that ascend from ``before``, up to ``end`` or the pixel data, and where they stopped."""
        data, is_little_endian = self.data, order == "<"
        found: Elements = {}
        n_elements = 0
        while at < end:
            tag, vr, begin, n_bytes = self.element(at, is_implicit_vr=is_implicit_vr, order=order)
            n_elements += 1
            if tag <= before or begin > end:
                raise _UnusualError
            if n_elements > MAX_ELEMENTS:
                raise UnreadableError(self.name, f"more than {MAX_ELEMENTS} elements before the pixel data")
            if tag in PIXEL_DATA_TAGS:
                return found, begin, Place(tag, begin, n_bytes)
            before, name, is_implicit_inside = tag, NAMES.get(vr), is_implicit_vr
            if n_bytes == UNDEFINED_LENGTH:
                if vr not in (b"SQ", b"UN", b""):
                    raise _UnusualError
                # PS3.5 6.2.2: of UN and undefined length is what was a sequence of implicit VR.
                is_implicit_inside = vr != b"SQ"
                at, name = self.sequence_end(begin, None, is_implicit_vr=is_implicit_inside, order=order), "SQ"
                n_bytes = at - SEQUENCE_END_BYTES - begin
            else:
                at = begin + n_bytes
                if at > len(data):
                    raise _ShortError
                if vr == b"SQ":
                    self.sequence_end(begin, at, is_implicit_vr=is_implicit_vr, order=order)
                elif (vr == b"UN" or is_implicit_vr) and data[begin : begin + 4] == ITEM_BYTES[order]:
                    self.look_into(begin, at, order)
            if (n_bytes <= MAX_HEADER_VALUE_BYTES and tag < FIRST_OVERLAY) or not is_bulk(tag, n_bytes):
                key = BaseTag(tag)
                value = data[begin : begin + n_bytes]
                found[key] = RawDataElement(key, name, n_bytes, value, begin, is_implicit_inside, is_little_endian)
        if at > end:
            raise _UnusualError
        return found, at, None

    def element(self, at: int, *, is_implicit_vr: bool, order: str) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty where implicit), where the value begins and its length."""
        data = self.data
        if at + 8 > len(data):
            raise _ShortError
        if is_implicit_vr:
            group, element, n_bytes = _IMPLICIT[order](data, at)
            return group << 16 | element, b"", at + 8, n_bytes
        group, element, vr, n_bytes = _EXPLICIT[order](data, at)
        if vr in SHORT_VRS:
            return group << 16 | element, vr, at + 8, n_bytes
        if vr not in LONG_VRS:
            raise _UnusualError
        if at + 12 > len(data):
            raise _ShortError
        return group << 16 | element, vr, at + 12, int(_LENGTH[order](data, at + 8)[0])

    def look_into(self, begin: int, end: int, order: str) -> None:
        """Walk through a value that may be a sequence; where it is none, it is just bytes."""
        try:
            self.sequence_end(begin, end, is_implicit_vr=True, order=order)
        except (_UnusualError, _ShortError, struct.error):
            return

    def sequence_end(self, at: int, end: int | None, *, is_implicit_vr: bool, order: str) -> int:
        """Walk through the items of a sequence and give the place behind it, and behind its delimiter if it has one."""
        # What is open: whether a sequence (else an item), where it ends (None: at a delimiter), and its encoding.
        is_open: list[tuple[bool, int | None, bool]] = [(True, end, is_implicit_vr)]
        while is_open:
            if len(is_open) > 2 * MAX_SEQUENCE_DEPTH:
                raise NestedTooDeeplyError(self.name, f"more than {MAX_SEQUENCE_DEPTH} levels")
            self.n_nested += 1
            if self.n_nested > MAX_NESTED_ELEMENTS:
                raise UnreadableError(self.name, f"more than {MAX_NESTED_ELEMENTS} elements in sequences")
            is_sequence, end, is_implicit_vr = is_open[-1]
            if at == end:
                is_open.pop()
                continue
            if at + 8 > len(self.data):
                raise _ShortError
            group, element, n_bytes = _IMPLICIT[order](self.data, at)
            tag = group << 16 | element
            if tag == (SEQUENCE_END if is_sequence else ITEM_END) and end is None:
                is_open.pop()
                at += 8
                continue
            if is_sequence:
                if tag != ITEM:
                    raise _UnusualError
                at += 8
                stop = None if n_bytes == UNDEFINED_LENGTH else at + n_bytes
                is_open.append((False, _inside(stop, end), is_implicit_vr))
                continue
            _, vr, at, n_bytes = self.element(at, is_implicit_vr=is_implicit_vr, order=order)
            stop = None if n_bytes == UNDEFINED_LENGTH else at + n_bytes
            _inside(stop, end)
            if vr == b"SQ" or (stop is None and vr in (b"", b"UN")):
                is_open.append((True, stop, is_implicit_vr or vr == b"UN"))
            elif stop is None:
                raise _UnusualError
            elif is_implicit_vr and n_bytes >= 8 and self.data[at : at + 4] == ITEM_BYTES[order]:
                is_open.append((True, stop, True))
            else:
                at = stop
        return at


_IMPLICIT = {order: struct.Struct(f"{order}HHI").unpack_from for order in "<>"}
_EXPLICIT = {order: struct.Struct(f"{order}HH2sH").unpack_from for order in "<>"}
_LENGTH = {order: struct.Struct(f"{order}I").unpack_from for order in "<>"}


def is_bulk(tag: int, n_bytes: int) -> bool:
    """Whether an element is pixels, an overlay, padding or a bulky private value, which headers do without."""
    group = tag >> 16
    if group in (PIXEL_GROUP, TRAILING_PADDING_GROUP) or (group & 0xFF00 == 0x6000 and tag & 0xFFFF == 0x3000):
        return True
    return group % 2 == 1 and n_bytes > MAX_HEADER_VALUE_BYTES


def _inside(stop: int | None, end: int | None) -> int | None:
    """The end of what is inside something that ends at ``end``."""
    if stop is not None and end is not None and stop > end:
        raise _UnusualError
    return stop


def _transfer_syntax_uid(meta: Elements) -> str:
    """A transfer syntax of which the encoding is known."""
    element = meta.get(BaseTag(0x00020010))
    uid = UID((element.value or b"").rstrip(b"\0 ").decode("ascii", "replace") if element is not None else "")
    if not uid.is_transfer_syntax or uid.is_private or uid == DeflatedExplicitVRLittleEndian:
        raise _UnusualError
    return str(uid)

"""Walk through encoded elements and sequences without decoding values and without recursion (PS3.5 7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NoReturn

from part10.errors import CutShortError, NotADatasetError, TooDeepError, TooManyElementsError
from part10.limits import MAX_NESTED_ELEMENTS, MAX_SEQUENCE_DEPTH

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
ITEM_BYTES: Final = {"<": b"\xfe\xff\x00\xe0", ">": b"\xff\xfe\xe0\x00"}
DELIMITER_BYTES: Final = 8

# PS3.5 7.1.2: these VRs are followed by two reserved bytes and a length of four bytes.
LONG_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
SHORT_VRS: Final = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip

_IMPLICIT = {order: struct.Struct(f"{order}HHI").unpack_from for order in "<>"}
_EXPLICIT = {order: struct.Struct(f"{order}HH2sH").unpack_from for order in "<>"}
_LENGTH = {order: struct.Struct(f"{order}I").unpack_from for order in "<>"}


@dataclass(slots=True)
class Walker:
    """Walks through bytes of one byte order.

    Attributes
    ----------
    data
        The available bytes; if they end too early, `CutShortError` is raised.
    order
        Byte order as in `struct`: ``<`` or ``>``.
    is_lenient
        Whether to continue after deviations from the standard if the next element can still be found: unknown or
        missing VRs, or an undefined length of any VR. A value with a length is then skipped without examining it.
        Otherwise such bytes raise `NotADatasetError`, and all nested elements are counted.
    n_nested
        Number of nested elements counted so far.
    """

    data: bytes
    order: str
    is_lenient: bool = False
    n_nested: int = 0

    def element(self, at: int, is_implicit_vr: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty if implicit), offset of the value and length of the element at ``at``."""
        try:
            if is_implicit_vr:
                group, element, n_bytes = _IMPLICIT[self.order](self.data, at)
                return group << 16 | element, b"", at + 8, n_bytes
            group, element, vr, n_bytes = _EXPLICIT[self.order](self.data, at)
            if vr in SHORT_VRS:
                return group << 16 | element, vr, at + 8, n_bytes
            if vr in LONG_VRS:
                (n_bytes,) = _LENGTH[self.order](self.data, at + 8)
                return group << 16 | element, vr, at + 12, n_bytes
            if not self.is_lenient:
                raise NotADatasetError(f"element at {at} has no known VR")
            # Some senders mix implicit elements into explicit datasets. Two capital letters are a VR, because as part
            # of an implicit length they would mean at least 16 kB.
            if vr.isalpha() and vr.isupper():
                return group << 16 | element, vr, at + 8, n_bytes
            group, element, n_bytes = _IMPLICIT[self.order](self.data, at)
        except struct.error:
            self._raise_cut(at)
        return group << 16 | element, b"", at + 8, n_bytes

    def sequence_end(self, at: int, end: int | None, is_implicit_vr: bool) -> int:
        """Walk through the items of a sequence and return the offset of its end, after its delimiter if it has one.

        Parameters
        ----------
        at
            Offset of the first item.
        end
            Offset of the end of the sequence according to its length; None if the length is undefined.

        Raises
        ------
        NotADatasetError
            The bytes are not items; `CutShortError` if they only end too early.
        TooDeepError, TooManyElementsError
            There are more levels or elements than `part10.limits` allow.
        """
        unpack, n_bytes_at_hand = _IMPLICIT[self.order], len(self.data)
        # Open sequences and items: whether it is a sequence, its end (None: at a delimiter), whether VRs are implicit.
        is_open: list[tuple[bool, int | None, bool]] = [(True, end, is_implicit_vr)]
        while is_open:
            self._count(len(is_open))
            is_sequence, end, is_implicit_vr = is_open[-1]
            if at == end:
                is_open.pop()
                continue
            if at + 8 > n_bytes_at_hand:
                self._raise_cut(at)
            group, element, n_bytes = unpack(self.data, at)
            tag = group << 16 | element
            if tag == (SEQUENCE_END if is_sequence else ITEM_END) and end is None:
                is_open.pop()
                at += DELIMITER_BYTES
                continue
            if is_sequence:
                if tag != ITEM:
                    raise NotADatasetError(f"{tag:08X} at {at} where an item was expected")
                vr, at = b"", at + 8
            else:
                _, vr, at, n_bytes = self.element(at, is_implicit_vr)
            stop = None if n_bytes == UNDEFINED_LENGTH else at + n_bytes
            if stop is not None and end is not None and stop > end:
                raise NotADatasetError(f"{tag:08X} of {n_bytes} bytes at {at} goes beyond what it is in")
            if self.is_lenient and stop is not None:
                at = stop
            elif is_sequence:
                is_open.append((False, stop, is_implicit_vr))
            elif vr == b"SQ" or (stop is None and (self.is_lenient or vr in (b"", b"UN"))):
                # PS3.5 6.2.2: a value of UN and undefined length has implicit VR.
                is_open.append((True, stop, is_implicit_vr or vr == b"UN"))
            elif stop is None:
                raise NotADatasetError(f"element at {at} of undefined length, but no sequence")
            elif is_implicit_vr and n_bytes >= 8 and self.data[at : at + 4] == ITEM_BYTES[self.order]:
                is_open.append((True, stop, True))
            else:
                at = stop
        return at

    def _count(self, n_open: int) -> None:
        """Count a nested element; raise if parsing would cost too much. A lenient walk does not count."""
        if self.is_lenient:
            return
        if n_open > 2 * MAX_SEQUENCE_DEPTH:
            raise TooDeepError(f"more than {MAX_SEQUENCE_DEPTH} levels")
        self.n_nested += 1
        if self.n_nested > MAX_NESTED_ELEMENTS:
            raise TooManyElementsError(f"more than {MAX_NESTED_ELEMENTS} elements in sequences")

    def _raise_cut(self, at: int) -> NoReturn:
        raise CutShortError(f"element at {at} in {len(self.data)} bytes")

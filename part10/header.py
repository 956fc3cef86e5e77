"""Find the raw elements of a Part 10 file and the position of its pixel data, in one pass and without recursion.

Reading a header with pydicom takes several times as long as reading the pixels, because it parses every sequence. Here
sequences are only walked through, so that their depth and size are known before they are parsed. For a file that
deviates from the standard the result is None, and the caller uses pydicom, which tolerates more deviations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from part10.errors import CutShortError, NotADatasetError, NotPart10Error, TooManyElementsError
from part10.file_meta import START_BYTES, dataset_offset
from part10.limits import MAX_ELEMENTS, MAX_HEADER_VALUE_BYTES
from part10.pixel_data import PIXEL_DATA_TAGS, PixelDataLocation, pixel_data_location
from part10.walk import DELIMITER_BYTES, ITEM_BYTES, LONG_VRS, SHORT_VRS, UNDEFINED_LENGTH, Walker

HEAD_BYTES: Final = 2**15  # most headers are shorter
GROWTH: Final = 8
_META_GROUP: Final = 0x0002
_FIRST_OVERLAY: Final = 0x60000000
_PIXEL_GROUP: Final = 0x7FE0
_TRAILING_PADDING_GROUP: Final = 0xFFFC
_META_BEGIN: Final = START_BYTES - 12  # of (0002,0000)
_NAMES: Final = {vr: vr.decode("ascii") for vr in LONG_VRS | SHORT_VRS}

Elements = dict[BaseTag, DataElement | RawDataElement]  # pydicom's type; here all are raw


class Header(NamedTuple):
    """File meta information and dataset up to the pixel data."""

    meta: Elements
    elements: Elements
    transfer_syntax_uid: str
    is_implicit_vr: bool
    is_little_endian: bool
    pixel_data: PixelDataLocation | None


def read_header(file: BinaryIO, head: bytes, n_bytes: int) -> Header | None:
    """Scan the header of a file, reading as much of it as needed.

    Parameters
    ----------
    file
        Positioned after ``head``.
    head
        The first bytes of the file.
    n_bytes
        Size of the file.

    Returns
    -------
    Header or None
        None if the file deviates from the standard or is deflated.

    Raises
    ------
    TooManyElementsError, TooDeepError
        The header has more elements or levels than `part10.limits` allow.
    """
    data = head
    while True:
        try:
            return _Scan(data, n_bytes).header()
        except CutShortError:
            if len(data) >= n_bytes:
                return None
            more = file.read(min(n_bytes, GROWTH * len(data)) - len(data))
            if not more:  # the file is shorter than ``n_bytes``
                return None
            data += more
        except (NotADatasetError, NotPart10Error):
            return None


def is_bulk(tag: int, n_bytes: int) -> bool:
    """Whether an element is left out of headers: pixel data, overlay data, padding or a large private value."""
    group = tag >> 16
    if group in (_PIXEL_GROUP, _TRAILING_PADDING_GROUP) or (group & 0xFF00 == 0x6000 and tag & 0xFFFF == 0x3000):
        return True
    return group % 2 == 1 and n_bytes > MAX_HEADER_VALUE_BYTES


@dataclass(slots=True)
class _Scan:
    """One attempt to scan the bytes read so far."""

    data: bytes
    n_bytes: int  # of the whole file
    walker: Walker = field(init=False)

    def header(self) -> Header:
        """Return the file meta information and the dataset up to the pixel data."""
        if len(self.data) < START_BYTES:
            raise CutShortError
        end = dataset_offset(self.data)
        self.walker = Walker(self.data, "<")
        meta, at, _ = self.elements(_META_BEGIN, end, before=0x0001FFFF, is_implicit_vr=False)
        if at != end or any(tag.group != _META_GROUP for tag in meta):
            raise NotADatasetError("file meta information is not as long as it says")
        uid = _transfer_syntax_uid(meta)
        is_implicit_vr, order = uid == ImplicitVRLittleEndian, ">" if uid == ExplicitVRBigEndian else "<"
        if is_implicit_vr and self.data[end + 4 : end + 6] in _NAMES:
            raise NotADatasetError("explicit VR, though the file meta information says implicit VR")
        self.walker = Walker(self.data, order, n_nested=self.walker.n_nested)
        elements, _, pixel_data = self.elements(end, self.n_bytes, before=0x0007FFFF, is_implicit_vr=is_implicit_vr)
        return Header(meta, elements, uid, is_implicit_vr, order == "<", pixel_data)

    def elements(
        self, at: int, end: int, *, before: int, is_implicit_vr: bool
    ) -> tuple[Elements, int, PixelDataLocation | None]:
        """Return elements with ascending tags above ``before``, up to ``end`` or the pixel data, and where they end."""
        data, walker, item_bytes = self.data, self.walker, ITEM_BYTES[self.walker.order]
        is_little_endian = walker.order == "<"
        found: Elements = {}
        n_elements = 0
        while at < end:
            tag, vr, begin, n_bytes = walker.element(at, is_implicit_vr)
            n_elements += 1
            if tag <= before or begin > end:
                raise NotADatasetError(f"tag {tag:08X} at {at} is out of order")
            if n_elements > MAX_ELEMENTS:
                raise TooManyElementsError(f"more than {MAX_ELEMENTS} elements before the pixel data")
            if tag in PIXEL_DATA_TAGS:
                return found, begin, pixel_data_location(tag, vr, begin, n_bytes)
            before, name, is_implicit_inside = tag, _NAMES.get(vr), is_implicit_vr
            if n_bytes == UNDEFINED_LENGTH:
                if vr not in (b"SQ", b"UN", b""):
                    raise NotADatasetError(f"{tag:08X} of undefined length, but no sequence")
                # PS3.5 6.2.2: a value of UN and undefined length has implicit VR.
                is_implicit_inside = vr != b"SQ"
                at, name = walker.sequence_end(begin, None, is_implicit_inside), "SQ"
                n_bytes = at - DELIMITER_BYTES - begin
            else:
                at = begin + n_bytes
                if at > len(data):
                    raise CutShortError
                if vr == b"SQ":
                    walker.sequence_end(begin, at, is_implicit_vr)
                elif (vr == b"UN" or is_implicit_vr) and data[begin : begin + 4] == item_bytes:
                    self.look_into(begin, at)
            if (n_bytes <= MAX_HEADER_VALUE_BYTES and tag < _FIRST_OVERLAY) or not is_bulk(tag, n_bytes):
                key = BaseTag(tag)
                value = data[begin : begin + n_bytes]
                found[key] = RawDataElement(key, name, n_bytes, value, begin, is_implicit_inside, is_little_endian)
        if at > end:
            raise NotADatasetError("an element goes beyond what it is in")
        return found, at, None

    def look_into(self, begin: int, end: int) -> None:
        """Walk through a value that may be a sequence, to count its elements; ignore it if it is not one."""
        try:
            self.walker.sequence_end(begin, end, is_implicit_vr=True)
        except NotADatasetError:
            return


def _transfer_syntax_uid(meta: Elements) -> str:
    """Return the transfer syntax; raise `NotADatasetError` if its encoding is unknown or deflated."""
    element = meta.get(BaseTag(0x00020010))
    text = (element.value or b"").rstrip(b"\0 ").decode("ascii", "replace") if element is not None else ""
    uid = UID(text, validation_mode=IGNORE)  # a wrong one is refused below; pydicom would log it
    if not uid.is_transfer_syntax or uid.is_private or uid == DeflatedExplicitVRLittleEndian:
        raise NotADatasetError("no transfer syntax of known encoding")
    return str(uid)

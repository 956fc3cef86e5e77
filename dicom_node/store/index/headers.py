"""What the index wants from a dataset's header: UIDs, and the attributes that QIDO-RS returns.

Only these elements are read, and nothing after (0040,0245) but the Request Attributes Sequence, if it is sound. Values
that cannot be decoded are left out or carry the replacement character, and long ones are cut; they never keep an
instance out. Missing or invalid UIDs do.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, get_args

from pydicom.charset import decode_bytes, python_encoding

from dicom_node.store.errors import MismatchedInstanceError, UnreadableInstanceError
from dicom_node.store.index.attributes import ATTRIBUTES, REQUEST_ATTRIBUTES, REQUESTED, TAGS, Level, integer
from dicom_node.store.index.rows import Arrival
from part10.encoding import Encoding, true_transfer_syntax
from part10.errors import CutShortError, Part10Error
from part10.inflate import inflate
from part10.select import select_elements
from part10.walk import UNDEFINED_LENGTH

MAX_HEADER_BYTES = 4 * 1024 * 1024  # the wanted elements begin within this, or the header is hostile
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")

LAST_WANTED_TAG = max(ATTRIBUTES)
_OF_LEVEL: Mapping[Level, list[tuple[str, str, str]]] = {
    level: [(TAGS[keyword], keyword, vr) for keyword, vr, its_level in ATTRIBUTES.values() if its_level == level]
    for level in get_args(Level)
}
_SPECIFIC_CHARACTER_SET = 0x00080005
_ITEM = (0xFFFE, 0xE000)
_WANTED = frozenset({_SPECIFIC_CHARACTER_SET, *ATTRIBUTES})
_ASCII = ("ascii",)
_ENCODED_VRS = frozenset(
    {"SH", "LO", "PN"}
)  # of those above, the ones that Specific Character Set governs (PS3.5 6.1.2.3)
# Senders do break the lengths of PS3.5 table 6.2-1 (PN: three groups of 64), but not by much.
_STANDARD_CHARACTERS = {
    "CS": 16,
    "DA": 8,
    "DS": 16,
    "IS": 12,
    "LO": 64,
    "PN": 194,
    "SH": 16,
    "TM": 16,
    "UI": 64,
    "US": 5,
}
MAX_CHARACTERS = {vr: 4 * n_characters for vr, n_characters in _STANDARD_CHARACTERS.items()}
"""What the index keeps of each value of a VR; the object has all of it."""
MAX_VALUES = 32
"""How many values of an attribute the index keeps."""


class Encoded(Protocol):
    """An encoded dataset, spooled or stored."""

    @property
    def head(self) -> bytes | bytearray:
        """Its first bytes."""

    @property
    def dataset_bytes(self) -> int:
        """Its length."""

    def read_head(self, n_bytes: int) -> bytes:
        """Return its first ``n_bytes``."""


@dataclass(frozen=True, slots=True)
class Header:
    """Identity of an instance, and the texts of its attributes by keyword."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str  # in which the dataset is, which may be another one than was announced
    texts: Mapping[str, str]  # several values with a backslash between, padding gone
    requests: tuple[Mapping[int, str], ...] = ()  # items of Request Attributes Sequence: tag → text

    @property
    def instance_number(self) -> int | None:
        """Instance Number where it is a number."""
        return integer(self.texts.get("InstanceNumber", ""))

    def dicom_json(self, level: Level) -> str:
        """The attributes of a level as a DICOM JSON object."""
        members: dict[str, Any] = {}
        for tag, keyword, vr in _OF_LEVEL[level]:
            if keyword in self.texts:
                member = _json_member(vr, self.texts[keyword])
                if member is not None:
                    members[tag] = member
        if level == "series" and self.requests:
            items = [{f"{tag:08X}": _json_member("SH", text) for tag, text in item.items()} for item in self.requests]
            members[f"{REQUEST_ATTRIBUTES:08X}"] = {"vr": "SQ", "Value": items}
        return json.dumps(members, ensure_ascii=False, separators=(",", ":"))


def read_header(spool: Encoded, arrival: Arrival) -> Header:
    """Read what the index wants from a spooled dataset and check it against what the sender announced."""
    transfer_syntax_uid, texts, requests = _read_texts(spool, arrival)
    uids = []
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        uid = texts.get(keyword, "")
        if len(uid) > 64 or not _UID.fullmatch(uid):
            found = f"{keyword} is {uid[:80]!r}, a UID expected" if uid else f"{keyword} is missing"
            raise UnreadableInstanceError(_shown(arrival.sop_instance_uid), found)
        uids.append(uid)
    header = Header(uids[0], uids[1], uids[2], uids[3], transfer_syntax_uid, texts, requests)
    for keyword, found, announced in (
        ("SOPClassUID", header.sop_class_uid, arrival.sop_class_uid),
        ("SOPInstanceUID", header.sop_instance_uid, arrival.sop_instance_uid),
        ("StudyInstanceUID", header.study_instance_uid, arrival.study_instance_uid),
    ):
        if announced is not None and found != announced:
            reason = f"{keyword} is {found} in the dataset, {_shown(announced)} was announced"
            raise MismatchedInstanceError(_shown(arrival.sop_instance_uid), reason)
    return header


def _decimal(text: str) -> float | None:
    """Value of a DS, where it is a finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shown(uid: str) -> str:
    return uid if _UID.fullmatch(uid) and len(uid) <= 64 else repr(uid[:80])


def _read_texts(spool: Encoded, arrival: Arrival) -> tuple[str, dict[str, str], tuple[dict[int, str], ...]]:
    """Transfer syntax of the dataset, the texts of its wanted elements, and those of the requests."""
    try:
        head = spool.read_head(len(spool.head))
        uid, encoding = true_transfer_syntax(head, arrival.transfer_syntax_uid)
        values = _scan_head(spool, head, encoding)
    except Part10Error as error:
        raise UnreadableInstanceError(_shown(arrival.sop_instance_uid), f"header cannot be read: {error}") from error
    charset = values.get(_SPECIFIC_CHARACTER_SET, b"").decode("ascii", "replace")
    encodings = encodings_of(charset)
    requests = _requests(values.pop(REQUEST_ATTRIBUTES, b""), encoding, encodings)
    order: Literal["little", "big"] = "little" if encoding.is_little_endian else "big"
    texts = {}
    for tag, value in values.items():
        keyword, vr, _ = ATTRIBUTES.get(tag, ("SpecificCharacterSet", "CS", "instance"))
        if vr == "US":
            text = str(int.from_bytes(value[:2], order)) if len(value) >= 2 else ""
        else:
            # PostgreSQL takes no NUL within a text; none belongs there.
            text = decode_text(value, encodings if vr in _ENCODED_VRS else _ASCII, vr).replace("\0", " ").strip(" ")
        if text:
            texts[keyword] = text if len(text) <= MAX_CHARACTERS[vr] else _cut(text, MAX_CHARACTERS[vr])
    return uid, texts, requests


def _requests(value: bytes, encoding: Encoding, encodings: tuple[str, ...]) -> tuple[dict[int, str], ...]:
    """Texts of the items of Request Attributes Sequence, up to the first of undefined length; none if it is damaged."""
    item_head = struct.Struct("<HHI" if encoding.is_little_endian else ">HHI")
    found: list[dict[int, str]] = []
    at = 0
    while at + item_head.size <= len(value) and len(found) < MAX_VALUES:
        group, element, n_bytes = item_head.unpack_from(value, at)
        at += item_head.size
        if (group, element) != _ITEM:
            break
        end = len(value) if n_bytes == UNDEFINED_LENGTH else at + n_bytes
        try:
            selected = select_elements(
                value[at:end],
                REQUESTED.keys(),
                max(REQUESTED),
                is_implicit_vr=encoding.is_implicit_vr,
                is_little_endian=encoding.is_little_endian,
            ).values
        except Part10Error:
            break
        texts = {
            tag: decode_text(text, encodings, "SH").replace("\0", " ").strip(" ") for tag, text in selected.items()
        }
        found.append({tag: text[: MAX_CHARACTERS["SH"]] for tag, text in texts.items() if text})
        at = end
    return tuple(one for one in found if one)


def _cut(text: str, n_characters: int) -> str:
    """Text with as many values, and as much of each, as the index keeps."""
    values = text.split("\\", MAX_VALUES)[:MAX_VALUES]
    return "\\".join(value.strip(" ")[:n_characters] for value in values)


def _scan_head(spool: Encoded, head: bytes, encoding: Encoding) -> dict[int, bytes]:
    for n_bytes in (len(head), MAX_HEADER_BYTES):
        if n_bytes > len(head):
            head = spool.read_head(n_bytes)
        is_cut = len(head) < spool.dataset_bytes
        elements = inflate(head, max_bytes=MAX_HEADER_BYTES) if encoding.is_deflated else head
        try:
            scan = select_elements(
                elements,
                _WANTED,
                LAST_WANTED_TAG,
                is_implicit_vr=encoding.is_implicit_vr,
                is_little_endian=encoding.is_little_endian,
            )
        except CutShortError:
            if not is_cut or n_bytes == MAX_HEADER_BYTES:
                raise
            continue
        if scan.is_complete or not is_cut:
            break
    return scan.values | _find_requests(elements, encoding)


def _find_requests(elements: bytes, encoding: Encoding) -> dict[int, bytes]:
    """Find the Request Attributes Sequence; what is damaged there keeps no instance out."""
    group, element = REQUEST_ATTRIBUTES >> 16, REQUEST_ATTRIBUTES & 0xFFFF
    if struct.pack("<HH" if encoding.is_little_endian else ">HH", group, element) not in elements:
        return {}
    try:
        return select_elements(
            elements,
            frozenset({REQUEST_ATTRIBUTES}),
            REQUEST_ATTRIBUTES,
            is_implicit_vr=encoding.is_implicit_vr,
            is_little_endian=encoding.is_little_endian,
        ).values
    except Part10Error:
        return {}


@lru_cache(maxsize=64)
def encodings_of(terms: str) -> tuple[str, ...]:
    """Python codecs of Specific Character Set (PS3.3 C.12.1.1.2); an unknown term reads as Latin-1, which takes all."""
    return tuple(python_encoding.get(term.strip(" \0"), "latin-1") for term in terms.split("\\"))


def decode_text(value: bytes, encodings: tuple[str, ...], vr: str) -> str:
    """Decode a value of a VR that Specific Character Set governs."""
    if b"\x1b" in value:
        if len(encodings) > 1:
            try:
                return decode_bytes(value, encodings, set(b"\\^=" if vr == "PN" else b"\\"))
            except (ValueError, LookupError, UserWarning):
                pass
    elif value.isascii():
        return value.decode("ascii")
    # Text beyond ASCII without a character set breaks the standard; UTF-8 that decodes is hardly anything else.
    if encodings[0] in ("ascii", "iso8859"):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    return value.decode(encodings[0], "replace")


def _json_member(vr: str, text: str) -> dict[str, Any] | None:
    values = [_json_value(vr, part.strip(" \0")) for part in text.split("\\")]
    if all(value is None for value in values):
        return None
    return {"vr": vr, "Value": values}


def _json_value(vr: str, text: str) -> object:
    if not text:
        return None  # PS3.18 F.2.4: an empty value among others is null
    if vr in ("IS", "US"):
        return integer(text)
    if vr == "DS":
        return _decimal(text)
    if vr == "PN":
        groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
        return {name: group for name, group in groups if group} or None
    return text

"""Read the identifier of a C-FIND, C-GET or C-MOVE request (PS3.4 C.4.1.1.3).

Only the values of top-level attributes are decoded, by the code that reads the headers of instances; sequences are
walked through and not read. A message never quotes a value, since it may name a patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_keyword, dictionary_VR
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.dimse.query.errors import IdentifierError, UnreadableIdentifierError
from dicom_node.dimse.query.models import QueryLevel, QueryModel
from dicom_node.store.index.attributes import TAGS
from dicom_node.store.index.filter_limits import MAX_LISTED, find_problem
from dicom_node.store.index.headers import decode_text, encodings_of
from part10.errors import Part10Error
from part10.walk import UNDEFINED_LENGTH, Walker

MAX_IDENTIFIER_BYTES: Final = 2**20  # ten thousand UIDs
MAX_ELEMENTS: Final = 1000  # with those in sequences; a form with all attributes has some hundred
MAX_UIDS: Final = 10_000
SPECIFIC_CHARACTER_SET, QUERY_LEVEL, TIMEZONE = 0x00080005, 0x00080052, 0x00080201
PRIVATE_GROUP: Final = 0x0099
_TEXT_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # whose characters are those of the set
_BINARY_VRS: Final = frozenset(
    {"AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SQ", "SS", "SV", "UL", "US", "UV"}
)


@dataclass(frozen=True, slots=True)
class Key:
    """An attribute of an identifier; ``text`` is empty if it has no value, None if its value cannot be matched."""

    tag: int
    text: str | None

    @property
    def keyword(self) -> str:
        """Keyword of the standard; empty for a private attribute."""
        return dictionary_keyword(self.tag) if dictionary_has_tag(self.tag) else ""


@dataclass(frozen=True, slots=True)
class Identifier:
    """What a request asks for."""

    level: QueryLevel
    keys: Mapping[int, Key]  # without character set and level
    character_set: str  # as in the identifier; empty: none

    def value(self, keyword: str) -> str:
        """Return the value of a key; empty if it is not there."""
        key = self.keys.get(int(TAGS[keyword], 16))
        return (key.text or "") if key is not None else ""


def read_identifier(encoded: bytes, transfer_syntax_uid: str, model: QueryModel) -> Identifier:
    """Decode an identifier and check its level.

    Raises
    ------
    IdentifierError
        It cannot be decoded, or has no level of the information model.
    """
    try:
        values = _elements(encoded, is_implicit_vr=transfer_syntax_uid == ImplicitVRLittleEndian)
    except (Part10Error, ValueError) as error:
        raise UnreadableIdentifierError(None, "identifier cannot be decoded") from error
    character_set = values.pop(SPECIFIC_CHARACTER_SET, ("CS", b""))[1].decode("ascii", "replace").strip(" \0")
    encodings = encodings_of(character_set)
    keys = {tag: Key(tag, _text(vr, value, encodings)) for tag, (vr, value) in values.items()}
    level = keys.pop(QUERY_LEVEL, None)
    if level is None or not level.text:
        raise IdentifierError(QUERY_LEVEL, "QueryRetrieveLevel (0008,0052) is missing")
    if level.text not in model.levels:
        raise IdentifierError(QUERY_LEVEL, f"QueryRetrieveLevel: expected {', '.join(model.levels)}")
    return Identifier(QueryLevel(level.text), keys, character_set)


def check_values(identifier: Identifier, *, max_listed: int = MAX_LISTED) -> None:
    """Raise `IdentifierError` if a value is beyond what the index answers; the limits are those of QIDO-RS."""
    for tag, key in identifier.keys.items():
        problem = find_problem(key.text, max_listed=max_listed) if key.text else None
        if problem is not None:
            raise IdentifierError(tag, f"{_shown(key)}: {problem.expected}")


def check_unique_keys(identifier: Identifier, model: QueryModel, *, is_relational: bool) -> None:
    """Raise `IdentifierError` unless each level above has one value of its unique key (PS3.4 C.4.1.2.1).

    With relational queries they may be missing, or be of any kind.
    """
    if is_relational:
        return
    for level in model.levels_above(identifier.level):
        check_single_value(identifier, level)


def check_single_value(identifier: Identifier, level: QueryLevel) -> None:
    """Raise `IdentifierError` unless the unique key of a level has one value without wildcards."""
    keyword = level.unique_key
    tag = int(TAGS[keyword], 16)
    value = identifier.value(keyword)
    if not value:
        raise IdentifierError(tag, f"{keyword} is missing, unique key of the level {level}")
    if any(letter in value for letter in "*?\\"):
        raise IdentifierError(tag, f"{keyword}: one value without wildcards expected")


def retrieval_filters(identifier: Identifier, model: QueryModel, *, is_relational: bool) -> dict[str, str]:
    """Return what to retrieve, by keyword: the unique keys of a level and of those above (PS3.4 C.4.2.1.4).

    Raises
    ------
    IdentifierError
        A unique key is missing or has several values, which only the one of the level itself may have; or there is
        another key that would have to be matched.
    """
    check_values(identifier, max_listed=MAX_UIDS)
    check_unique_keys(identifier, model, is_relational=is_relational)
    own = identifier.level.unique_key
    if identifier.level is QueryLevel.PATIENT:
        check_single_value(identifier, identifier.level)
    elif not identifier.value(own):
        raise IdentifierError(int(TAGS[own], 16), f"{own} is missing, unique key of the level {identifier.level}")
    levels = (*model.levels_above(identifier.level), identifier.level)
    unique = {int(TAGS[level.unique_key], 16): level.unique_key for level in levels}
    for tag, key in identifier.keys.items():
        if tag not in unique and key.text != "" and tag != TIMEZONE:
            raise IdentifierError(tag, f"{_shown(key)}: only unique keys select what to retrieve")
        if tag in unique and any(letter in (key.text or "") for letter in "*?"):
            raise IdentifierError(tag, f"{_shown(key)}: wildcards do not select what to retrieve")
    return {keyword: identifier.value(keyword) for keyword in unique.values() if identifier.value(keyword)}


def shown_tag(tag: int) -> str:
    """Return a tag as people write it."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _shown(key: Key) -> str:
    return key.keyword or shown_tag(key.tag)


def _elements(encoded: bytes, *, is_implicit_vr: bool) -> dict[int, tuple[str, bytes]]:
    """Return VR and value of each top-level element."""
    walker = Walker(encoded, "<")
    found: dict[int, tuple[str, bytes]] = {}
    at = 0
    while at < len(encoded):
        tag, vr, begin, n_bytes = walker.element(at, is_implicit_vr)
        name = vr.decode("ascii") or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
        if n_bytes == UNDEFINED_LENGTH:
            at = walker.sequence_end(begin, None, is_implicit_vr)
            name = "SQ"
        else:
            at = begin + n_bytes
            if at > len(encoded):
                raise ValueError("an element goes beyond the end")
            if name == "SQ":
                walker.sequence_end(begin, at, is_implicit_vr)
        if tag & 0xFFFF:  # no group lengths
            found[tag] = (name, encoded[begin:at])
        if len(found) + walker.n_nested > MAX_ELEMENTS:
            raise ValueError("too many elements")
    return found


def _text(vr: str, value: bytes, encodings: tuple[str, ...]) -> str | None:
    """Return the values of an element with a backslash between them; None for binary ones, unless it is empty."""
    if vr in _BINARY_VRS:
        return None if value.strip(b"\0") else ""
    text = decode_text(value, encodings if vr in _TEXT_VRS else ("ascii",), vr)
    return "\\".join(part.strip(" \0") for part in text.split("\\"))

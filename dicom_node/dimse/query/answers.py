"""Encode matches of a query, DICOM JSON objects of the index, as the data sets of C-FIND responses."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydicom.charset import python_encoding
from pydicom.uid import ImplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from dicom_node.dimse.query.identifier import SPECIFIC_CHARACTER_SET

UTF_8: Final = "ISO_IR 192"
_CAN_ANSWER: Final = re.compile(r"ISO_IR (?!13$)[0-9]+|GB18030|GBK")  # without escape sequences
MAX_SHORT_BYTES: Final = 0xFFFE  # of a value in explicit VR, of the VRs that the index holds
_IMPLICIT: Final = struct.Struct("<HHI")
_EXPLICIT: Final = struct.Struct("<HH2sH")

Member = Mapping[str, Any]
"""A member of a DICOM JSON object: VR and, unless it is empty, a list of values (PS3.18 F.2)."""


class AnswerEncoder:
    """Encodes the matches of one query.

    Parameters
    ----------
    character_set
        Specific Character Set of the query. Answers have it if it can express them; else, if they are beyond ASCII,
        they are in UTF-8.
    """

    def __init__(self, transfer_syntax_uid: str, character_set: str) -> None:
        self._is_implicit_vr = transfer_syntax_uid == ImplicitVRLittleEndian
        self._character_set = character_set
        self._codec = python_encoding.get(character_set) if _CAN_ANSWER.fullmatch(character_set) else None

    def encode(self, members: Mapping[int, Member]) -> bytes:
        """Encode the attributes of a match."""
        texts = {tag: (str(member["vr"]), _text(member)) for tag, member in members.items()}
        character_set, codec = self._choose(text for _, text in texts.values() if isinstance(text, str))
        if character_set:
            texts[SPECIFIC_CHARACTER_SET] = ("CS", character_set)
        return b"".join(
            self._element(tag, vr, value if isinstance(value, bytes) else value.encode(codec, "replace"))
            for tag, (vr, value) in sorted(texts.items())
        )

    def _choose(self, texts: Iterable[str]) -> tuple[str, str]:
        """Return Specific Character Set and codec."""
        beyond_ascii = "".join(text for text in texts if not text.isascii())
        if not beyond_ascii:
            return "", "ascii"
        if self._codec is not None:
            try:
                beyond_ascii.encode(self._codec)
            except UnicodeEncodeError:
                pass
            else:
                return self._character_set, self._codec
        return UTF_8, "utf-8"

    def _element(self, tag: int, vr: str, value: bytes) -> bytes:
        if len(value) > MAX_SHORT_BYTES:
            value = b""  # the index holds less of every attribute, but a peer's set may take more bytes than ours
        if len(value) % 2:
            value += b"\0" if vr == "UI" else b" "
        group, element = tag >> 16, tag & 0xFFFF
        if self._is_implicit_vr:
            return _IMPLICIT.pack(group, element, len(value)) + value
        return _EXPLICIT.pack(group, element, vr.encode("ascii"), len(value)) + value


def text_member(vr: str, *values: str) -> Member:
    """Return a member with texts."""
    return {"vr": vr, "Value": list(values)}


def _text(member: Member) -> str | bytes:
    """Return the values as DICOM encodes them, with a backslash between texts."""
    values, vr = member.get("Value", []), member["vr"]
    if vr == "US":
        return b"".join(struct.pack("<H", int(value) & 0xFFFF) for value in values if value is not None)
    return "\\".join(_one(vr, value) for value in values)


def _one(vr: str, value: Any) -> str:  # noqa: ANN401 - a value of DICOM JSON
    if value is None:
        return ""
    if vr == "PN":
        groups = (value.get(name, "") for name in ("Alphabetic", "Ideographic", "Phonetic"))
        return "=".join(groups).rstrip("=")
    if vr == "DS":
        return format_number_as_ds(float(value))
    return str(value)

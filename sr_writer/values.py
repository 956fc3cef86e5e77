"""Check whether encoded values are valid in their VR, without changing them (PS3.5 6.2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Final

from pydicom.charset import python_encoding

# VRs to which Specific Character Set applies; all others use the default repertoire.
TEXT_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_SINGLE_VALUED_VRS: Final = frozenset({"LT", "ST", "UT", "UR"})
_MAX_CHARACTERS: Final = {"LO": 64, "SH": 16, "LT": 10240, "ST": 1024}
_PARAGRAPH_CONTROLS: Final = str.maketrans("", "", "\r\n\f\t\x1b")
_PERSON_NAME_GROUP_CHARACTERS: Final = 64


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"\d{8}", text):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


_TIME: Final = r"([01]\d|2[0-3])([0-5]\d((?:[0-5]\d|60)(\.\d{1,6})?)?)?"
_NUMBER: Final = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
_IS_VALID: Final[dict[str, Callable[[str], bool]]] = {
    "AE": _matches(r"[ -\[\]-~]{1,16}"),
    "AS": _matches(r"\d{3}[DWMY]"),
    "CS": _matches(r"[A-Z0-9_ ]{1,16}"),
    "DA": _is_date,
    "DS": lambda text: len(text) <= 16 and re.fullmatch(_NUMBER, text) is not None,
    "DT": _matches(rf"\d{{4}}((0[1-9]|1[0-2])((0[1-9]|[12]\d|3[01])({_TIME})?)?)?([+-]\d{{4}})?"),
    "IS": _matches(r"[+-]?\d{1,11}"),
    "TM": _matches(_TIME),
    "UI": lambda text: len(text) <= 64 and re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", text) is not None,
    "UR": _matches(r"[!-~]+"),
}


def decode_text(value: bytes, character_sets: tuple[str, ...]) -> str | None:
    """Return the text of ``value``; ``None`` if it cannot be checked and the bytes must be used unchanged.

    This is the case for code extensions (ISO 2022 escape sequences), for unknown terms, and for bytes beyond ASCII
    without a declared character set. Such values are common and readers interpret them as Latin-1; without them a
    result would not match its patient.

    Raises
    ------
    UnicodeDecodeError
        The bytes are not valid in the declared character set.
    """
    declared = [term for term in character_sets if term]
    if not declared:
        return value.decode("ascii") if value.isascii() else None
    if len(declared) > 1 or declared[0].startswith("ISO 2022") or declared[0] not in python_encoding:
        return None
    return value.decode(python_encoding[declared[0]])


def is_valid_value(vr: str, value: bytes, character_sets: tuple[str, ...]) -> bool:
    """Whether the encoded value of a string VR may be written; an empty value always may."""
    try:
        text = decode_text(value, character_sets if vr in TEXT_VRS else ())
    except UnicodeDecodeError:
        return False
    if text is None:
        return vr in TEXT_VRS
    values = [text] if vr in _SINGLE_VALUED_VRS else text.split("\\")
    return all(_is_valid_single(vr, single) for single in values)


def _is_valid_single(vr: str, text: str) -> bool:
    text = text.rstrip(" \0") if vr in TEXT_VRS else text.strip(" \0")
    if not text:
        return True
    if vr not in TEXT_VRS:
        return _IS_VALID[vr](text)
    if any(character < " " or character == "\x7f" for character in text.translate(_PARAGRAPH_CONTROLS)):
        return False
    if vr == "PN":
        groups = text.split("=")
        return len(groups) <= 3 and all(
            len(group) <= _PERSON_NAME_GROUP_CHARACTERS and group.count("^") <= 4 for group in groups
        )
    return len(text) <= _MAX_CHARACTERS.get(vr, len(text))

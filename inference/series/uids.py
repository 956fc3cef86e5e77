"""Identifiers as messages may show them: a UID or a known word as it is, anything else by what kind of text it is.

Senders and anonymisers write names and patient IDs into any attribute, and messages go into logs and web pages.
"""

from __future__ import annotations

import re

from pydicom.uid import UID

_UID = re.compile(r"[0-9.]{1,64}")  # PS3.5 9.1; leading zeros and empty components are only badly made
_KINDS = "digits|letters|spaces|control characters|punctuation"
# What was described already: an error that was pickled describes its facts once more.
_DESCRIBED = re.compile(rf"\(empty\)|\(\d+ characters: (?:{_KINDS})(?:, (?:{_KINDS}))*\)")
NIFTI = "of a NIfTI file"  # stands where a series has no UID


def shown_uid(text: str) -> str:
    """A UID, or in brackets what was found instead of one."""
    is_shown = _UID.fullmatch(text) or _DESCRIBED.fullmatch(text) or text == NIFTI
    return text if is_shown else kind_of_text(text)


def name_of_uid(text: str) -> str:
    """Name of a UID of the standard; others as `shown_uid`."""
    name = UID(text).name
    return name if name != text else shown_uid(text)


def shown_word(text: str, *known: str) -> str:
    """One of the known words, or in brackets what kind of text was found instead."""
    return text if text in known else kind_of_text(text)


def kind_of_text(text: str) -> str:
    """Length and kinds of characters of a text, without the text."""
    if not text:
        return "(empty)"
    kinds = {
        "digits": any(one.isdigit() for one in text),
        "letters": any(one.isalpha() for one in text),
        "spaces": any(one.isspace() and one.isprintable() for one in text),
        "control characters": any(not one.isprintable() for one in text),
        "punctuation": any(one.isprintable() and not (one.isalnum() or one.isspace()) for one in text),
    }
    return f"({len(text)} characters: {', '.join(kind for kind, is_there in kinds.items() if is_there)})"

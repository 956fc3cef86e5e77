"""Clean coded concepts: a meaning stays only if it is in a public table (PS3.3 section 8)."""

from __future__ import annotations

from functools import cache
from typing import Final

from highdicom.sr.coding import CodedConcept
from pydicom import Dataset

from dicom_node.export.public_words import is_code_value, public_meaning
from sr_writer import codes as our_codes

_VALUE_KEYWORDS: Final = ("CodeValue", "LongCodeValue")
_UNKNOWN_MEANING: Final = "Meaning removed"


def clean_code(source: Dataset, copy: Dataset, *, is_person: bool) -> None:
    """Copy what may stay of the coded concept in ``source`` to ``copy``.

    The code value and its scheme stay if they look like a code; a person's code is replaced. The meaning is that of the
    public table, or a dummy for local codes, whose meaning may be free text.
    """
    scheme = str(source.get("CodingSchemeDesignator", "")).strip()
    is_scheme = 0 < len(scheme) <= 16 and scheme.isascii() and scheme.replace("_", "").replace("-", "").isalnum()
    for keyword in _VALUE_KEYWORDS:
        value = str(source.get(keyword, "")).strip()
        if not value:
            continue
        is_kept = is_scheme and not is_person and is_code_value(value, scheme)
        setattr(copy, keyword, value if is_kept else "REMOVED")
        meaning = (public_meaning(value, scheme) or _our_meanings().get((scheme, value))) if is_kept else None
        told = str(source.get("CodeMeaning", "")).strip()
        ours = _our_meanings().get((scheme, value))
        copy.CodeMeaning = told if told and told in (meaning, ours) else (meaning or _UNKNOWN_MEANING)[:64]
    if "CodingSchemeDesignator" in source:
        copy.CodingSchemeDesignator = scheme if is_scheme else "REMOVED"
    version = str(source.get("CodingSchemeVersion", "")).strip()
    if version and version.isascii() and len(version) <= 16 and version.replace(".", "").isdigit():
        copy.CodingSchemeVersion = version


@cache
def _our_meanings() -> dict[tuple[str, str], str]:
    """Return the meanings that this project defines itself."""
    concepts = [value for value in vars(our_codes).values() if isinstance(value, CodedConcept)]
    return {(concept.scheme_designator, concept.value): concept.meaning for concept in concepts}

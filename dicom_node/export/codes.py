"""Clean coded concepts: a code stays if its scheme is public, a meaning if a public table has it (PS3.3 section 8)."""

from __future__ import annotations

from functools import cache
from typing import Final

from highdicom.sr.coding import CodedConcept
from pydicom import Dataset

from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.public_words import is_code_value, is_public_scheme, public_meaning
from dicom_node.export.statements import METHOD_CODES
from sr_writer import codes as our_codes

_VALUE_KEYWORDS: Final = ("CodeValue", "LongCodeValue")
_UNKNOWN_MEANING: Final = "Meaning removed"
_LOCAL_SCHEME: Final = "99LOCAL"  # a private designator begins with 99 (PS3.16 section 8)


def clean_code(source: Dataset, copy: Dataset, pseudonyms: Pseudonyms, *, is_person: bool) -> None:
    """Copy what may stay of the coded concept in ``source`` to ``copy``.

    Scheme and code stay if the scheme is public and the code looks like one of it. A hospital's own scheme names the
    hospital, and its codes may name anything: the scheme is replaced, and each code by a word that is the same for
    the same code throughout the project. A person's code is removed. The meaning is that of the public table, or a
    dummy.
    """
    scheme = str(source.get("CodingSchemeDesignator", "")).strip()
    is_public = is_public_scheme(scheme) or scheme == our_codes.PRIVATE_SCHEME
    ours = _our_meanings()
    for keyword in _VALUE_KEYWORDS:
        value = str(source.get(keyword, "")).strip()
        if not value:
            continue
        is_kept = is_public and not is_person and ((scheme, value) in ours or is_code_value(value, scheme))
        replaced = "REMOVED" if is_person or is_public else pseudonyms.word("code", f"{scheme}\0{value}")
        setattr(copy, keyword, value if is_kept else replaced)
        meaning = (public_meaning(value, scheme) or ours.get((scheme, value))) if is_kept else None
        told = str(source.get("CodeMeaning", "")).strip()
        is_known = told != "" and told in (meaning, ours.get((scheme, value)))
        copy.CodeMeaning = told if is_known else (meaning or _UNKNOWN_MEANING)[:64]
    if "CodingSchemeDesignator" in source:
        copy.CodingSchemeDesignator = scheme if is_public else _LOCAL_SCHEME
    version = str(source.get("CodingSchemeVersion", "")).strip()
    if is_public and version.isascii() and len(version) <= 16 and version.replace(".", "").isdigit():
        copy.CodingSchemeVersion = version


def known_meanings(value: str, scheme: str) -> tuple[str, ...]:
    """Return the meanings of a code in public tables, and in this project: the same whatever the source says."""
    stated = METHOD_CODES.get(value) if scheme == "DCM" else None
    found = (public_meaning(value, scheme), _our_meanings().get((scheme, value)), stated)
    return tuple(meaning for meaning in found if meaning is not None)


@cache
def _our_meanings() -> dict[tuple[str, str], str]:
    """Return the meanings that this project defines itself."""
    concepts = [value for value in vars(our_codes).values() if isinstance(value, CodedConcept)]
    return {(concept.scheme_designator, concept.value): concept.meaning for concept in concepts}

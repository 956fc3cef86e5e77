"""Public words and coded concepts, which reveal nothing about a patient."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

from pydicom._dicom_dict import DicomDictionary  # the dictionary itself has no public name
from pydicom.sr import codedict  # noqa: F401 - loads the concept tables below
from pydicom.sr._concepts_dict import concepts

_WORD: Final = re.compile(r"[A-Z]+")
_CAMEL: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SHORT: Final = 3  # so few letters in a row cannot identify anybody
_CODE_STRING: Final = re.compile(r"[A-Z0-9_ ]{0,16}")

# Code values of schemes without a table here are kept if they have the form of the scheme.
_CODE_FORMS: Final = {
    "SCT": re.compile(r"\d{6,18}"),
    "DCM": re.compile(r"\d{4,8}"),
    "LN": re.compile(r"\d{1,7}-\d"),
    "SRT": re.compile(r"[A-Z]{1,2}-[0-9A-F]{4,6}"),
    "SNM3": re.compile(r"[A-Z]{1,2}-[0-9A-F]{4,6}"),
    "99SDM": re.compile(r"[A-Z]{1,2}-[0-9A-F]{4,6}"),
    "UCUM": re.compile(r"[A-Za-z0-9/.\[\]{}%*^'-]{1,16}"),
    "RADLEX": re.compile(r"RID\d{1,8}"),
    "FMA": re.compile(r"\d{3,8}"),
    "NCIt": re.compile(r"C\d{2,8}"),
    "RFC5646": re.compile(r"[a-z]{2,3}(?:-[A-Z]{2})?"),
    "UMLS": re.compile(r"C\d{7}"),
}


@cache
def vocabulary() -> frozenset[str]:
    """Return the standard's words in capitals: those of attribute names, and the defined terms of PS3.3."""
    words = set((files("dicom_node.export") / "defined_terms.txt").read_text(encoding="ascii").split())
    for _, _, name, _, keyword in DicomDictionary.values():
        words.update(word.upper() for word in _CAMEL.findall(keyword))
        words.update(_WORD.findall(name.upper()))
    return frozenset(words)


def is_public_code_string(value: str, extra: frozenset[str]) -> bool:
    """Return whether a CS value consists of public or ``extra`` words, numbers of up to four digits and short words."""
    if not _CODE_STRING.fullmatch(value):
        return False
    if value.strip() in extra:
        return True
    for word in re.findall(r"[A-Z]+|\d+", value):
        if word.isdigit():
            if len(word) > 4:
                return False
        elif len(word) > _SHORT and word not in vocabulary() and word not in extra:
            return False
    return True


def public_meaning(value: str, scheme: str) -> str | None:
    """Return the Code Meaning of a code in the public table of its scheme, or None."""
    return _meanings().get((scheme, value))


def is_code_value(value: str, scheme: str) -> bool:
    """Return whether a code value may stay: it has the form of its scheme, or at least that of a code."""
    form = _CODE_FORMS.get(scheme)
    if form is not None:
        return form.fullmatch(value) is not None
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,15}", value) is not None


@cache
def _meanings() -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for scheme, by_keyword in concepts.items():
        by_values: Iterable[dict[str, tuple[object, ...]]] = cast("Any", by_keyword).values()
        for by_value in by_values:
            for value, details in by_value.items():
                found[scheme, value] = str(details[0])
    return found

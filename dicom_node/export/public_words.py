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
_MAX_DIGITS: Final = 4  # in a value, and in at most two places: more may be a record number or a date
_MAX_SHORT_WORDS: Final = 2  # unknown ones: more may be a name in pieces
_CODE_STRING: Final = re.compile(r"[A-Z0-9_ ]{0,16}")
# Terms of PS3.3 that look like record numbers: character sets (C.12.1.1.2) and compression methods (C.7.6.1.1.5).
_NUMBERED_TERM: Final = re.compile(
    r"ISO_IR \d{1,3}|ISO 2022 IR \d{1,3}|GB18030|GBK"
    r"|ISO_(?:10918_1|14495_1|15444_1|15444_2|15444_15|18181_1|13818_2|14496_10|23008_2)"
)

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


# Further schemes of PS3.16 Table 8-1, whose codes are letters and digits.
_OTHER_SCHEMES: Final = frozenset(
    {
        *("BI", "C4", "I9", "I9C", "I10", "I10P", "ICD11", "ICDO3", "ISO639_1", "ISO639_2", "ISO3166_1", "ITIS_TSN"),
        *("DCMUID", "IANA_TZ", "MDC", "MDNS", "MeSH", "MMIS", "NEU", "NICIP", "OPCS4", "RXNORM", "SNM", "UNIPROT"),
    }
)
_ANY_CODE: Final = re.compile(r"[A-Za-z]{1,3}|(?=[A-Za-z._/-]{0,15}\d)[A-Za-z0-9][A-Za-z0-9._/-]{0,15}")


@cache
def vocabulary() -> frozenset[str]:
    """Return the standard's words in capitals: those of attribute names, and the defined terms of PS3.3."""
    words = set((files("dicom_node.export") / "defined_terms.txt").read_text(encoding="ascii").split())
    for _, _, name, _, keyword in DicomDictionary.values():
        words.update(word.upper() for word in _CAMEL.findall(keyword))
        words.update(_WORD.findall(name.upper()))
    return frozenset(words)


def is_public_code_string(value: str, extra: frozenset[str]) -> bool:
    """Return whether a CS value consists of public or ``extra`` words, and few digits and short words."""
    if not _CODE_STRING.fullmatch(value):
        return False
    if value.strip() in extra or _NUMBERED_TERM.fullmatch(value.strip()):
        return True
    numbers = re.findall(r"\d+", value)
    if len(numbers) > 2 or sum(map(len, numbers)) > _MAX_DIGITS:
        return False
    unknown = [word for word in _WORD.findall(value) if word not in vocabulary() and word not in extra]
    return len(unknown) <= _MAX_SHORT_WORDS and all(len(word) <= _SHORT for word in unknown)


def public_meaning(value: str, scheme: str) -> str | None:
    """Return the Code Meaning of a code in the public table of its scheme, or None."""
    return _meanings().get((scheme, value))


def is_public_scheme(scheme: str) -> bool:
    """Return whether a Coding Scheme Designator is one of PS3.16 section 8, not a vendor's or a hospital's own."""
    return scheme in _CODE_FORMS or scheme in _OTHER_SCHEMES or scheme in concepts


def is_code_value(value: str, scheme: str) -> bool:
    """Return whether a code value of a public scheme may stay: it is in its table, or has the form of its codes."""
    return public_meaning(value, scheme) is not None or _CODE_FORMS.get(scheme, _ANY_CODE).fullmatch(value) is not None


@cache
def _meanings() -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for scheme, by_keyword in concepts.items():
        by_values: Iterable[dict[str, tuple[object, ...]]] = cast("Any", by_keyword).values()
        for by_value in by_values:
            for value, details in by_value.items():
                found[scheme, value] = str(details[0])
    return found

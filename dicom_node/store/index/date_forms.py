"""Forms of dates and times in queries (PS3.5 6.2): those of DA and TM, ranges of them, and the forms of ACR-NEMA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from dicom_node.store.index.attributes import ATTRIBUTES

_VRS: Final[Mapping[str, str]] = {keyword: vr for keyword, vr, _ in ATTRIBUTES.values() if vr in ("DA", "TM")}
# With the separators of ACR-NEMA too, which PS3.5 recommended to receivers for long.
_ONE: Final = {
    "DA": r"\d{8}|\d{4}\.\d{2}\.\d{2}",
    "TM": r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?|\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?",
}
# A range may be open at one end (PS3.4 C.2.2.2.5), and in practice at both: any known value.
_FORMS: Final = {vr: re.compile(f"(?:{one})?-(?:{one})?|{one}", re.ASCII) for vr, one in _ONE.items()}
_OLD_SEPARATOR: Final = {"DA": ".", "TM": ":"}
_EXPECTED: Final = {
    "DA": "YYYYMMDD or a range: YYYYMMDD-YYYYMMDD, YYYYMMDD- or -YYYYMMDD",
    "TM": "HHMMSS.FFFFFF, HHMMSS, HHMM or HH, or a range: HHMM-HHMM, HHMM- or -HHMM",
}


def expected_form(keyword: str, value: str) -> str | None:
    """Return which form is expected instead of a value that is no date, time or range, or None if it is fine."""
    vr = _VRS.get(keyword)
    if vr is None or not value.strip("*") or _FORMS[vr].fullmatch(value):
        return None
    return _EXPECTED[vr]


def forms_of(keyword: str, value: str) -> tuple[str, ...]:
    """Return a value in every form in which the index may have it.

    A date or time in the form of ACR-NEMA is looked for as it is and in today's form; a range only in today's form,
    since in the old one it does not sort with the others.
    """
    separator = _OLD_SEPARATOR.get(_VRS.get(keyword, ""))
    if separator is None or separator not in value:
        return (value,)
    modern = value.replace(separator, "")
    return (modern,) if "-" in value else (modern, value)


def is_date_or_time(keyword: str) -> bool:
    """Return whether values of an attribute of the index are dates or times."""
    return keyword in _VRS

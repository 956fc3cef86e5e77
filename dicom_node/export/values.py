"""Check, shift and replace single encoded values; a value that is invalid in its VR is never kept."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

_DATE: Final = re.compile(rb"(\d{4})(\d{2})(\d{2})|(\d{4})\.(\d{2})\.(\d{2})")
_DATE_TIME: Final = re.compile(
    rb"(\d{4})(\d{2})(\d{2})((?:\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?)((?:[+-]\d{4})?)"
)  # PS3.5 6.2; a value without a day cannot be shifted
_TIME: Final = re.compile(rb"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?")
_DECIMAL: Final = re.compile(rb"[+-]?(?:\d{1,16}(?:\.\d{0,16})?|\.\d{1,16})(?:[eE][+-]?\d{1,3})?")
_INTEGER: Final = re.compile(rb"[+-]?\d{1,11}")
_AGE: Final = re.compile(rb"(\d{3})([DWMY])")
OLDEST_YEARS: Final = 90  # ages over 89 identify (45 CFR 164.514)
_MAX_COMPONENTS: Final = 2**16

_DUMMIES: Final = {
    "AE": b"REMOVED", "AS": b"000Y", "CS": b"REMOVED", "DA": b"19000101", "DS": b"0", "DT": b"19000101000000",
    "IS": b"0", "LO": b"REMOVED", "LT": b"REMOVED", "PN": b"REMOVED", "SH": b"REMOVED", "ST": b"REMOVED",
    "TM": b"000000", "UC": b"REMOVED", "UR": b"about:blank", "UT": b"REMOVED",
    "AT": bytes(4), "FD": bytes(8), "FL": bytes(4), "SL": bytes(4), "SS": bytes(2), "SV": bytes(8), "UL": bytes(4),
    "US": bytes(2), "UV": bytes(8), "OB": bytes(2), "OD": bytes(8), "OF": bytes(4), "OL": bytes(4), "OV": bytes(8),
    "OW": bytes(2), "UN": b"",
}  # fmt: skip


def dummy(vr: str) -> bytes:
    """Return a meaningless value that is valid in its VR (PS3.15 E.2, action D)."""
    return _DUMMIES[vr]


def components(value: bytes) -> list[bytes]:
    """Return the values between backslashes, without padding; at most 65536."""
    return [part.strip(b" \0") for part in value.split(b"\\", _MAX_COMPONENTS)]


def are_numbers(value: bytes, vr: str) -> bool:
    """Return whether every value of a DS or IS is a number or empty (PS3.5 6.2)."""
    pattern = _DECIMAL if vr == "DS" else _INTEGER
    return all(not part or (len(part) <= 40 and pattern.fullmatch(part)) for part in components(value))


def is_time(value: bytes) -> bool:
    """Return whether every value of a TM is a time or empty."""
    return all(not part or _TIME.fullmatch(part) for part in components(value))


def moved_dates(value: bytes, vr: str, offset: timedelta) -> bytes | None:
    """Shift each date (DA) or date-time (DT) by ``offset``; return None if one is not a complete valid date."""
    move = _moved_date if vr == "DA" else _moved_date_time
    moved = []
    for part in components(value):
        one = move(part, offset) if part else b""
        if one is None:
            return None
        moved.append(one)
    return b"\\".join(moved)


def capped_age(value: bytes) -> bytes | None:
    """Return the age, or 090Y if it is above 89 years, or None if it is not an age."""
    match = _AGE.fullmatch(value.strip(b" \0"))
    if match is None:
        return None
    number, unit = int(match[1]), match[2]
    days = number * {b"D": 1, b"W": 7, b"M": 30, b"Y": 365}[unit]
    return b"090Y" if days >= OLDEST_YEARS * 365 else match[0]


def _moved_date(part: bytes, offset: timedelta) -> bytes | None:
    match = _DATE.fullmatch(part)
    if match is None:
        return None
    year, month, day = (int(match[i] or match[i + 3]) for i in (1, 2, 3))
    return _date_bytes(year, month, day, offset)


def _moved_date_time(part: bytes, offset: timedelta) -> bytes | None:
    match = _DATE_TIME.fullmatch(part)
    if match is None:
        return None
    moved = _date_bytes(int(match[1]), int(match[2]), int(match[3]), offset)
    return None if moved is None else moved + match[4] + match[5]


def _date_bytes(year: int, month: int, day: int, offset: timedelta) -> bytes | None:
    try:
        moved = date(year, month, day) + offset
    except (ValueError, OverflowError):
        return None
    return b"%04d%02d%02d" % (moved.year, moved.month, moved.day)

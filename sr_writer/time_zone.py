"""Time zone of the dates and times of a source (PS3.3 C.12.1.1.8)."""

from __future__ import annotations

import re
from datetime import timedelta, timezone
from typing import Final

from pydicom.dataset import Dataset

_OFFSET: Final = re.compile(r"([+-])(0[0-9]|1[0-4])([0-5][0-9])")  # &ZZXX, from -1200 to +1400


def source_time_zone(header: Dataset) -> timezone | None:
    """Return the time zone that the header names; ``None`` if it is missing or invalid."""
    offset = _OFFSET.fullmatch(str(header.get("TimezoneOffsetFromUTC") or ""))
    if offset is None:
        return None
    sign = -1 if offset[1] == "-" else 1
    return timezone(sign * timedelta(hours=int(offset[2]), minutes=int(offset[3])))

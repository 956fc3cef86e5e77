"""Parts of bulk data by the Range header (RFC 9110 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from dicom_node.dicomweb.errors import RangeError

_ONE: Final = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some of ``total`` bytes."""

    begin: int
    n_bytes: int
    total: int

    @property
    def content_range(self) -> str:
        """Value of the header Content-Range."""
        return f"bytes {self.begin}-{self.begin + self.n_bytes - 1}/{self.total}"


def requested_range(request: Request, total: int) -> ByteRange | None:
    """Return the one range that is asked for; None for all bytes.

    Several ranges, and a range for a version that is not the present one, are answered with all bytes, as RFC 9110
    allows.

    Raises
    ------
    RangeError
        It begins after the last byte.
    """
    found = _ONE.fullmatch(request.headers.get("range", ""))
    if found is None or found.groups() == ("", ""):
        return None
    if request.headers.get("if-range", request.state.tag) != request.state.tag:
        return None
    first, last = found.groups()
    if not first:
        begin, end = max(0, total - int(last)), total
    else:
        begin, end = int(first), total if not last else min(total, int(last) + 1)
    if first and last and int(first) > int(last):
        return None
    if begin >= total or begin >= end:
        raise RangeError(request.headers["range"], total)
    return ByteRange(begin, end - begin, total)

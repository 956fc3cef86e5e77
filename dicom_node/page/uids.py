"""UIDs in the paths of pages."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request

from dicom_node.page.errors import FormError

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")


def study_uid(request: Request) -> str:
    """Return the Study Instance UID in a path."""
    return checked_uid("the study", request.path_params["study"])


def series_uid(request: Request) -> str:
    """Return the Series Instance UID in a path."""
    return checked_uid("the series", request.path_params["series"])


def checked_uid(what: str, uid: str) -> str:
    """Return a UID that has the form of one; raise `FormError` otherwise."""
    if not is_uid(uid):
        raise FormError(what, uid, "a UID: digits and dots, at most 64")
    return uid


def is_uid(text: str) -> bool:
    """Whether a text has the form of a UID."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_number(text: str, *, max_digits: int) -> bool:
    """Whether a text consists of digits; `str.isdigit` alone takes superscripts, which are no numbers for `int`."""
    return text.isascii() and text.isdigit() and len(text) <= max_digits

"""Wildcards of DICOM as patterns for LIKE."""

from __future__ import annotations

import re
from typing import Final

ESCAPE: Final = "/"


def like_pattern(value: str) -> str:
    """Return ``*`` and ``?`` as ``%`` and ``_``, and everything else as it is."""
    escaped = re.sub(r"[%_/]", lambda found: ESCAPE + found[0], value)
    return escaped.replace("*", "%").replace("?", "_")

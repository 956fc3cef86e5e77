"""Names of the files that an offline run writes."""

from __future__ import annotations

from typing import Final

REPORT: Final = "report.json"
SUMMARY: Final = "summary.json"
PAGE: Final = "index.html"


def mask_file(role: str) -> str:
    """Return the name of the mask of a role, ``foreground`` or ``anonymized``, within the folder of its volume."""
    return f"{role}.nii.gz"

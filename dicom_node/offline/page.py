"""``index.html`` of an offline run: one page that opens without a server, with every volume, failure and overlay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

PIECE_LINES: Final = 500  # parts of the template in each piece

# Names and messages come from files of others: everything is escaped.
_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("dicom_node.offline", ""),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
)


def render_page(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the page in pieces.

    Parameters
    ----------
    summary
        Contents of ``summary.json``, as ``run.summarise`` returns them.
    """
    counts = Counter(str(volume["verdict"]) for volume in summary["volumes"])
    reasons: dict[str, list[str]] = {}
    for item in summary["not_used"]:
        reasons.setdefault(item["code"], []).append(item["reason"])
    page = _ENVIRONMENT.get_template("page.html").stream(
        summary=summary,
        look=look(),
        volumes=map(_row, summary["volumes"]),
        counts=counts.most_common(),
        not_used=[(code, len(found), found[0]) for code, found in sorted(reasons.items())],
    )
    page.enable_buffering(PIECE_LINES)
    yield from page


def look() -> str:
    """Return the colours and tables that all pages share."""
    return (resources.files("dicom_node") / "page" / "assets" / "look.css").read_text(encoding="utf-8")


def _row(volume: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one row of the table shows."""
    return {
        "name": volume["name"],
        "folder": quote(str(volume["name"]), safe=""),
        "input": volume.get("input"),
        "modality": volume.get("modality"),
        "verdict": str(volume["verdict"]),
        "probability": f"{volume['probability']:.2f}",
        "foreground_ml": f"{volume['foreground_ml']:.1f}",
        "anonymized_ml": f"{volume['anonymized_ml']:.1f}",
        "seconds": f"{sum((volume.get('timings_s') or {}).values()):.1f}",
    }

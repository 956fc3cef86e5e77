"""``index.html`` of a dataset: every volume with its picture and numbers, and what was refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dicom_node.offline.page import look

PIECE_LINES: Final = 500  # parts of the template in each piece

# Names come from files of others: everything is escaped.
_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("dicom_node.datasets", ""),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
)


def render_page(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the page in pieces; ``manifest`` is the content of ``manifest.json``."""
    volumes = manifest["volumes"]
    page = _ENVIRONMENT.get_template("page.html").stream(
        manifest=manifest,
        look=look(),
        volumes=map(_row, volumes),
        modalities=Counter(str(volume["modality"]) for volume in volumes).most_common(),
        n_altered=sum(volume["n_altered"] > 0 for volume in volumes),
        n_zero=sum(volume["exact_zero_air"] > 0 for volume in volumes),
        outcomes=sorted(Counter(str(one["outcome"]) for one in manifest.get("studies", ())).items()),
        codes=Counter(str(one["code"]) for one in manifest["refused"]).most_common(),
    )
    page.enable_buffering(PIECE_LINES)
    yield from page


def _row(volume: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one row of the table shows."""
    return {
        **{key: volume[key] for key in ("id", "result", "subject", "session", "modality", "verdict")},
        "shape": " × ".join(map(str, volume["shape"])),
        "spacing": " × ".join(f"{spacing:.3g}" for spacing in volume["spacing_mm"]),
        "body": f"{volume['n_body'] / volume['n_voxels']:.1%}",
        "altered": f"{volume['altered_share']:.1%}",
        "zero_air": f"{volume['exact_zero_air']:.1%}" if volume["exact_zero_air"] else "none",
    }

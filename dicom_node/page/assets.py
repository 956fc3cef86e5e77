"""Style, scripts and the libraries that come with the page; nothing is fetched from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from importlib import resources
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dicom_node.page.errors import NoSuchPageError

HTMX: Final = "htmx-2.0.11/htmx.min.js"
NIIVUE: Final = "niivue-0.69.0/niivue.umd.js"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_NAMES: Final = (
    "look.css",
    "page.css",
    "page.js",
    "review.js",
    "upload.js",
    "icon.svg",
    HTMX,
    NIIVUE,
)


@lru_cache
def asset(name: str) -> tuple[bytes, bytes, str]:
    """Return an asset, the same compressed, and the beginning of its SHA-256; the name must be one of ours."""
    if name not in _NAMES:
        raise NoSuchPageError(f"asset {name[:80]!r}")
    content = (resources.files(__package__) / "assets" / name).read_bytes()
    return content, gzip.compress(content, 6, mtime=0), hashlib.sha256(content).hexdigest()[:12]


def asset_path(name: str) -> str:
    """Return the path of an asset, with its version, so that browsers may keep it."""
    return f"/assets/{name}?v={asset(name)[2]}"


def send_asset(request: Request) -> Response:
    """``GET /assets/{name}``."""
    name = request.path_params["name"]
    content, compressed, version = asset(name)
    media_type = _TYPES[name[name.rindex(".") :]]
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "ETag": f'"{version}"',
        "Vary": "Accept-Encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(compressed, media_type=media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(content, media_type=media_type, headers=headers)

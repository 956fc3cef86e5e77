"""Let pages of other sites use DICOMweb, those that the settings name (fetch.spec.whatwg.org, CORS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS: Final = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
EXPOSED: Final = ("Content-Location", "Content-Range", "Accept-Ranges", "ETag", "Warning", "Retry-After", "Link")
MAX_AGE_S: Final = 600


class Cors:
    """Answers preflight requests and adds the headers, for DICOMweb only: not for pages, health and metrics.

    Parameters
    ----------
    origins
        Such as ``https://viewer.example.org``; ``*`` is any. Cookies and other credentials are never allowed.
    roots
        Paths below which it holds.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], roots: Sequence[str]) -> None:
        self._app = app
        self._roots = tuple(roots)
        self._open = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=MAX_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the headers where they belong."""
        is_open = any(scope["path"] == root or scope["path"].startswith(f"{root}/") for root in self._roots)
        await (self._open if is_open else self._app)(scope, receive, send)

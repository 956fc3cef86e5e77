"""Handle every request before routing: limits, a path without the proxy's prefix, headers of every answer."""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.dicomweb.http_server import MAX_HEADER_BYTES
from dicom_node.dicomweb.problems import problem

log = logging.getLogger(__name__)

# Values from a sender's header are data: no browser may render an answer as a page, or run code in it.
_SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
# Once a browser has come by the address with TLS, it comes by no other for a year (RFC 6797).
_STRICT_TRANSPORT: Final = (b"strict-transport-security", b"max-age=31536000")
_PROXY_HEADERS: Final = frozenset({b"x-forwarded-prefix", b"x-forwarded-host", b"forwarded"})


class Guard:
    """Outermost layer of the application.

    Parameters
    ----------
    app
        The application, whose paths begin with one of ``roots`` and have no slash at their end.
    roots
        First segments of its paths, such as ``/dicom-web``.
    public_url
        URL that clients use; its path is the prefix that a proxy may leave in the requests that it forwards.
    """

    def __init__(self, app: ASGIApp, *, roots: tuple[str, ...], public_url: str | None) -> None:
        self._app = app
        self._roots = roots
        public = urlsplit(public_url or "")
        self._prefix = public.path.rstrip("/")
        self._headers = (*_SECURITY_HEADERS, *((_STRICT_TRANSPORT,) if public.scheme == "https" else ()))
        self._may_hint = public_url is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer like the application, with additional headers where it sets none of that name."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name.lower() for name, _ in message["headers"]}
                added = [header for header in self._headers if header[0] not in said]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        n_bytes = sum(len(name) + len(value) for name, value in scope["headers"])
        if n_bytes + len(scope.get("raw_path", b"")) + len(scope["query_string"]) > MAX_HEADER_BYTES:
            too_long = problem(
                431, "header-too-large", f"the request's header is too long, at most {MAX_HEADER_BYTES} bytes"
            )
            await too_long(scope, receive, send_with_headers)
            return
        if self._may_hint and not _PROXY_HEADERS.isdisjoint(name for name, _ in scope["headers"]):
            self._may_hint = False
            log.warning("a proxy passes requests on, but web.public_url is not set: addresses in answers may be wrong")
        await self._app({**scope, "path": self._routed_path(scope["path"])}, receive, send_with_headers)

    def _routed_path(self, path: str) -> str:
        """Return the path without a trailing slash, and without the proxy's prefix if there is one.

        There are no redirects: their address would lack a prefix that only the proxy knows.
        """
        path = path.rstrip("/") or "/"
        inner = path.removeprefix(self._prefix) or "/"
        is_prefixed = inner != path and any(inner == root or inner.startswith(f"{root}/") for root in self._roots)
        return inner if is_prefixed else path

"""Which requests may change something: only those from a page of this node, by a browser that was given a token.

A page of another site can make a browser send a form to this node. It cannot give the form our token, nor hide where it
comes from. It can also have its own name resolve to the node's address; so the name that the browser called must be one
that this node knows.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from dicom_node.page.errors import ForeignRequestError

COOKIE: Final = "dicom_node_browser"
TOKEN_FIELD: Final = "token"  # noqa: S105 - the name of a form's field
_RELOAD: Final = "reload the page and try again"


class Protection:
    """Tokens for the forms of one process, and the check of requests that change something.

    Parameters
    ----------
    public_url
        What clients call; its host is a known name.
    """

    def __init__(self, public_url: str | None) -> None:
        self._secret = secrets.token_bytes(32)
        self._public = urlsplit(public_url or "")
        self._path = self._public.path.rstrip("/") or "/"
        self._names = {"localhost", socket.gethostname().lower()} | {(self._public.hostname or "localhost").lower()}

    def browser_of(self, request: Request) -> str:
        """Return the random name of a browser, a new one if it has none."""
        known = request.cookies.get(COOKIE, "")
        return known if 20 <= len(known) <= 64 and known.isascii() else secrets.token_urlsafe(24)

    def token_for(self, browser: str) -> str:
        """Return the token that forms of this browser carry."""
        return hmac.new(self._secret, browser.encode(), hashlib.sha256).hexdigest()

    def remember(self, request: Request, response: Response, browser: str) -> None:
        """Give the browser its name, unless it has it."""
        if request.cookies.get(COOKIE) != browser:
            is_secure = self._public.scheme == "https"
            response.set_cookie(
                COOKIE, browser, httponly=True, samesite="strict", path=self._path, secure=is_secure, max_age=None
            )

    def check_form(self, request: Request, fields: Mapping[str, str]) -> None:
        """Raise `ForeignRequestError` unless a form comes from a page of this process, in the same browser."""
        self.check_origin(request)
        browser = request.cookies.get(COOKIE, "")
        if not browser or not hmac.compare_digest(fields.get(TOKEN_FIELD, ""), self.token_for(browser)):
            raise ForeignRequestError("the form is from before a restart of the node, or from another browser", _RELOAD)

    def check_json(self, request: Request) -> None:
        """Raise `ForeignRequestError` unless a JSON request is no browser's, or that of a page of this node.

        A page of another site cannot send JSON without asking first, which this node never allows.
        """
        self.check_origin(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ForeignRequestError("the request has no body of JSON", "send it with Content-Type: application/json")

    def check_origin(self, request: Request) -> None:
        """Raise `ForeignRequestError` if a browser says that the request is another site's, or calls a foreign name."""
        host = request.headers.get("host", "")
        if not self._is_known(host):
            raise ForeignRequestError(
                f"this node does not know the name {host[:80]!r} by which it was called",
                "call it by its address or set web.public_url to the URL that people use",
            )
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is not None and site not in ("same-origin", "none"):
            raise ForeignRequestError("a page of another site sent this request", _RELOAD)
        if origin is not None and urlsplit(origin).netloc not in (host, self._public.netloc or host):
            raise ForeignRequestError(f"the page {origin[:80]!r} sent this request", _RELOAD)

    def _is_known(self, host: str) -> bool:
        """Return whether a Host is an address or a name of this node; no page of another site is called so."""
        name = (urlsplit(f"//{host}").hostname or "").lower()
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

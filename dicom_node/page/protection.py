"""Which requests may change something: only those from a page of this node, by a browser that was given a token.

A page of another site can make a browser send a form to this node. It cannot give the form our token, nor hide where it
comes from.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from dicom_node.access.errors import ForeignRequestError
from dicom_node.access.origins import RELOAD, Origins

COOKIE: Final = "dicom_node_browser"
TOKEN_FIELD: Final = "token"  # noqa: S105 - the name of a form's field


class Protection:
    """Tokens for the forms of one process, and the check of requests that change something.

    Parameters
    ----------
    public_url
        What clients call; its host is a known name.
    host_names
        Other names of the node.
    """

    def __init__(self, public_url: str | None, host_names: Iterable[str] = ()) -> None:
        self._secret = secrets.token_bytes(32)
        public = urlsplit(public_url or "")
        self.path = public.path.rstrip("/") or "/"
        self.is_secure = public.scheme == "https"
        self._origins = Origins(public_url, host_names)

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
            response.set_cookie(
                COOKIE, browser, httponly=True, samesite="strict", path=self.path, secure=self.is_secure, max_age=None
            )

    def check_form(self, request: Request, fields: Mapping[str, str]) -> None:
        """Raise `ForeignRequestError` unless a form comes from a page of this process, in the same browser."""
        self._origins.check(request)
        browser = request.cookies.get(COOKIE, "")
        token = fields.get(TOKEN_FIELD, "").encode(errors="replace")  # whatever was typed; str would have to be ASCII
        if not browser or not hmac.compare_digest(token, self.token_for(browser).encode()):
            raise ForeignRequestError("the form is from before a restart of the node, or from another browser", RELOAD)

    def check_origin(self, request: Request) -> None:
        """Raise `ForeignRequestError` if a browser says that another site sent a request, or calls a foreign name."""
        self._origins.check(request)

    def check_json(self, request: Request) -> None:
        """Raise `ForeignRequestError` unless a JSON request is no browser's, or that of a page of this node.

        A page of another site cannot send JSON without asking first, which this node never allows.
        """
        self._origins.check(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ForeignRequestError("the request has no body of JSON", "send it with Content-Type: application/json")

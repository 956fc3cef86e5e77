"""Sign in to the page with a token, sign out, and what people see who are not signed in or may not do something."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicom_node.access.errors import AccessError, NotSignedInError
from dicom_node.access.gatekeeper import COOKIE, address_of, headers_of, status_of
from dicom_node.access.identify import Identifier
from dicom_node.access.pending import Pending
from dicom_node.page.errors import NoSuchPageError
from dicom_node.page.protection import Protection
from dicom_node.page.rendering import Renderer

if TYPE_CHECKING:
    from dicom_node.access.oidc import OidcProvider

PATH: Final = "/sign-in"
PENDING_COOKIE: Final = "dicom_node_oidc"
PENDING_S: Final = 600  # to sign in at the provider
TOKEN_INPUT: Final = "access_token"  # noqa: S105 - the name of a form's field
_FOR_PROGRAMS: Final = ("/api", "/dicom-web", "/wado", "/health", "/metrics")


class SignInPage:
    """``/sign-in`` and ``/sign-out``."""

    def __init__(self, identifier: Identifier, renderer: Renderer, protection: Protection) -> None:
        self._identifier = identifier
        self._renderer = renderer
        self._protection = protection

    def show(self, request: Request) -> Response:
        """``GET /sign-in?next=``: the form, or who is signed in."""
        return self._page(request, request.query_params.get("next", ""))

    def sign_in(self, request: Request, fields: Mapping[str, str]) -> Response:
        """``POST /sign-in``: begin a session and go to where the person wanted to go."""
        wanted = fields.get("next", "")
        try:
            secret, _ = self._identifier.sign_in(fields.get(TOKEN_INPUT, ""), address_of(request))
        except AccessError as error:
            return self._page(request, wanted, error)
        return self._begin(secret, wanted)

    def leave(self, request: Request) -> Response:
        """``GET /sign-in/oidc?next=``: go to the provider, and remember what its answer must fit to."""
        pending = Pending.new()
        response = RedirectResponse(self._provider.begin(self._callback(request), pending), status_code=303)
        kept = f"{pending}!{quote(local_path(request.query_params.get('next', '')), safe='')}"
        self._set_cookie(response, PENDING_COOKIE, kept, max_age=PENDING_S)
        return response

    def come_back(self, request: Request) -> Response:
        """``GET /sign-in/callback?code=&state=``: the provider's answer; begin a session of who it is."""
        address = address_of(request)
        self._identifier.check_failures(address)
        kept, _, wanted = request.cookies.get(PENDING_COOKIE, "").partition("!")
        query, pending = request.query_params, Pending.parse(kept)
        if pending is None or not hmac.compare_digest(query.get("state", "").encode(), pending.state.encode()):
            raise NotSignedInError("this answer of the provider is not to a sign-in of this browser, or came too late")
        if "code" not in query:
            raise NotSignedInError(f"the provider says {query.get('error', 'nothing')[:80]!r}")
        try:
            caller = self._provider.finish(query["code"], self._callback(request), pending)
        except NotSignedInError as error:  # a browser can make up its cookie and the answer
            self._identifier.has_failed(address, str(error.args[0]))
            raise
        response = self._begin(self._identifier.begin_session(caller, address), unquote(wanted))
        response.delete_cookie(PENDING_COOKIE, path=self._protection.path)
        return response

    def end(self, request: Request) -> Response:
        """``GET /sign-in/end``: go to the provider to sign out there; to the form if it has no page for that."""
        form = self._address(request, PATH)
        return RedirectResponse(self._provider.end(form) or form, status_code=303)

    @property
    def _provider(self) -> OidcProvider:
        provider = self._identifier.provider
        if provider is None:
            raise NoSuchPageError("OpenID Connect")
        return provider

    def _callback(self, request: Request) -> str:
        """Return the address to which the provider sends people back; the provider has to know it."""
        return self._address(request, f"{PATH}/callback")

    def _address(self, request: Request, path: str) -> str:
        """Return the whole address of a page of this node."""
        root = self._renderer.public_url or str(request.base_url)
        return f"{root.rstrip('/')}{path}"

    def _begin(self, secret: str, wanted: str) -> Response:
        response = RedirectResponse(self._renderer.base + local_path(wanted), status_code=303)
        self._set_cookie(response, COOKIE, secret)
        return response

    def _set_cookie(self, response: Response, name: str, value: str, max_age: int | None = None) -> None:
        # Lax, not strict: people come from other sites by links, and from the provider.
        protection = self._protection
        response.set_cookie(
            name,
            value,
            max_age=max_age,
            httponly=True,
            samesite="lax",
            path=protection.path,
            secure=protection.is_secure,
        )

    def sign_out(self, request: Request, _: Mapping[str, str]) -> Response:
        """``POST /sign-out``: end the session."""
        self._identifier.sign_out(request.cookies.get(COOKIE, ""))
        end = f"{PATH}?signed-out" if self._identifier.provider is not None else PATH
        response = RedirectResponse(self._renderer.base + end, status_code=303)
        response.delete_cookie(COOKIE, path=self._protection.path)
        return response

    def show_refusal(self, request: Request, error: AccessError) -> Response | None:
        """Return what a person sees in place of a page; None for programs, which get JSON."""
        path = request.scope["path"]
        is_program = "authorization" in request.headers
        if is_program or any(path == root or path.startswith(f"{root}/") for root in _FOR_PROGRAMS):
            return None
        if not isinstance(error, NotSignedInError):
            return self._error(request, error)
        query = f"?{request.url.query}" if request.url.query else ""
        target = f"{self._renderer.base}{PATH}?{urlencode({'next': path + query})}"
        if "hx-request" in request.headers:  # a part of a page: the whole page goes to the form
            return Response(status_code=401, headers={**headers_of(error), "HX-Redirect": self._renderer.base + PATH})
        if request.method in ("GET", "HEAD"):
            return RedirectResponse(target, status_code=303)
        return self._error(request, error)

    def _error(self, request: Request, error: AccessError) -> Response:
        status = status_of(error)
        response = self._renderer.html(
            request, "error.html", status=int(status), title=status.phrase, message=str(error), code=error.code
        )
        response.headers.update(headers_of(error))
        return response

    def _page(self, request: Request, wanted: str, error: AccessError | None = None) -> Response:
        cookie = request.cookies.get(COOKIE, "")
        person = self._identifier.by_session(cookie) if cookie and error is None else None
        status = 200 if error is None else int(status_of(error))
        response = self._renderer.html(
            request,
            "sign_in.html",
            status=status,
            person=person,
            wanted=local_path(wanted),
            error=error,
            is_left="signed-out" in request.query_params,
            end=f"{PATH}/end",
            token_input=TOKEN_INPUT,
            provider=None
            if self._identifier.provider is None
            else f"{PATH}/oidc?{urlencode({'next': local_path(wanted)})}",
        )
        response.headers.update({} if error is None else headers_of(error))
        return response


def local_path(wanted: str) -> str:
    """Return a path of this node to go to; its first page if it is an address elsewhere."""
    is_local = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if is_local else "/"

"""Stand before every route: ask who is calling, and let through who may."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dicom_node.access.callers import Caller, with_caller
from dicom_node.access.errors import (
    AccessError,
    ClosedRouteError,
    NotPermittedError,
    NotSignedInError,
    ProviderError,
    TooManyFailuresError,
    TooManyRequestsError,
)
from dicom_node.access.identify import UNKNOWN, Identifier
from dicom_node.access.origins import Origins
from dicom_node.access.roles import Right
from dicom_node.access.table import right_of_route

log = logging.getLogger(__name__)

COOKIE: Final = "dicom_node_session"
_STATUS_OF: Final[dict[type[AccessError], HTTPStatus]] = {
    NotSignedInError: HTTPStatus.UNAUTHORIZED,
    TooManyFailuresError: HTTPStatus.TOO_MANY_REQUESTS,
    TooManyRequestsError: HTTPStatus.TOO_MANY_REQUESTS,
    ProviderError: HTTPStatus.SERVICE_UNAVAILABLE,
}
_NO_NAME_NEEDED: Final = frozenset({Right.ANYONE, Right.METRICS})  # monitoring calls containers by other names
_CHALLENGE: Final = 'Bearer realm="dicom-node"'
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})

Show = Callable[[Request, AccessError], Response | None]


class Gatekeeper:
    """Guards the routes of one web server.

    Parameters
    ----------
    origins
        Names by which the node may be called, and from where requests of browsers may come.
    identifier
        Knows the callers; None where nobody has to sign in.
    """

    def __init__(self, origins: Origins, identifier: Identifier | None = None) -> None:
        self._origins = origins
        self.identifier = identifier
        self.show: Show = lambda _request, _error: None

    @property
    def signs_in(self) -> bool:
        """Whether callers have to show who they are."""
        return self.identifier is not None

    def guard(self, routes: Iterable[Route]) -> None:
        """Stand before routes; one that is not in the table of rights is refused to everybody."""
        for route in routes:
            route.app = self._guarded(route.path, route.app)

    def _guarded(self, path: str, app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope)
            try:
                right = self._right(request, path)
                if self.identifier is not None and right is not Right.ANYONE:
                    caller = await run_in_threadpool(self._admit, request, self.identifier, right, path)
                    scope = with_caller(scope, caller)
            except AccessError as error:
                await self._refusal(request, error)(scope, receive, send)
                return
            await app(scope, receive, send)

        return answer

    def _right(self, request: Request, path: str) -> Right:
        """Return the right that a request needs; the name that it calls must be known."""
        right = right_of_route(request.method, path)
        if right is None:
            raise ClosedRouteError
        if right not in _NO_NAME_NEEDED:
            self._origins.check_name(request)
        return right

    def _admit(self, request: Request, identifier: Identifier, right: Right, path: str) -> Caller:
        """Return who is calling; raise if that is not known, or if they may not."""
        caller = self._caller(request, identifier)
        identifier.check_pace(caller, address_of(request))
        if not caller.role.has(right):
            detail = {"role": caller.role.value, "needed": right.name.lower()}
            identifier.refusals.note(
                "not-permitted",
                actor=caller.name,
                subject=f"{request.method} {path}",
                source=caller.name,
                detail=detail,
            )
            request.scope.update(with_caller(request.scope, caller))  # the page that says so shows who it is
            raise NotPermittedError(caller.name, caller.role, right)
        if right in (Right.READ, Right.DECIDE) and request.method == "GET":
            names = request.path_params
            identifier.has_read(caller, names.get("study") or names.get("series"), address_of(request))
        return caller

    def _caller(self, request: Request, identifier: Identifier) -> Caller:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return identifier.by_token(token.strip(), address_of(request))
        secret = request.cookies.get(COOKIE, "")
        caller = identifier.by_session(secret) if secret else None
        if caller is None:
            raise NotSignedInError("your session is over" if secret else "this node has to know who you are")
        if request.method not in _READING:  # a browser sends the cookie by itself, whoever made it send the request
            self._origins.check(request)
        return caller

    def _refusal(self, request: Request, error: AccessError) -> Response:
        shown = self.show(request, error)
        response = refusal(error) if shown is None else shown
        if request.method not in _READING:
            response.headers["Connection"] = "close"  # the body is not read
        return response


def refusal(error: AccessError) -> Response:
    """Return the answer to a program: RFC 9457, with the header that RFC 6750 asks for."""
    status = status_of(error)
    body = {"title": status.phrase, "status": int(status), "code": error.code, "detail": str(error)}
    return JSONResponse(body, status_code=int(status), media_type="application/problem+json", headers=headers_of(error))


def status_of(error: AccessError) -> HTTPStatus:
    """Return the HTTP status of an error."""
    return _STATUS_OF.get(type(error), HTTPStatus.FORBIDDEN)


def headers_of(error: AccessError) -> dict[str, str]:
    """Return the headers that belong to an error."""
    if isinstance(error, NotSignedInError):
        return {"WWW-Authenticate": _CHALLENGE + (', error="invalid_token"' if error.has_token else "")}
    if isinstance(error, (TooManyFailuresError, TooManyRequestsError)):
        return {"Retry-After": str(error.wait_s)}
    return {}


def address_of(request: Request) -> str:
    """Return the address that a request comes from: a proxy's, where there is one."""
    return UNKNOWN if request.client is None else request.client.host

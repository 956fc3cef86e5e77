"""Turn endpoints of pages into routes, and their errors into pages that say what to do."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dicom_node.access.callers import caller_of
from dicom_node.access.errors import AccessError, ForeignRequestError
from dicom_node.access.gatekeeper import address_of, headers_of
from dicom_node.access.gatekeeper import status_of as access_status
from dicom_node.access.refusals import Refusals
from dicom_node.errors import NodeError, Refused, Transient
from dicom_node.gate.errors import DecisionRefusedError
from dicom_node.http_intake.errors import BodyTooLargeError, SlowBodyError
from dicom_node.page.errors import (
    BodyTooLongError,
    BodyTooSlowError,
    NoPictureError,
    NoSuchPageError,
    UnsupportedBodyError,
    UploadsOffError,
)
from dicom_node.page.forms import read_form, read_object
from dicom_node.page.protection import Protection
from dicom_node.page.rendering import Renderer
from dicom_node.store import EvidenceChangedError, IllegalTransitionError, NotFoundError

log = logging.getLogger(__name__)

_STATUS_OF: Final[dict[type[Exception], HTTPStatus]] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    NoSuchPageError: HTTPStatus.NOT_FOUND,
    ForeignRequestError: HTTPStatus.FORBIDDEN,
    UploadsOffError: HTTPStatus.FORBIDDEN,
    UnsupportedBodyError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    SlowBodyError: HTTPStatus.REQUEST_TIMEOUT,
    BodyTooLongError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BodyTooSlowError: HTTPStatus.REQUEST_TIMEOUT,
    NoPictureError: HTTPStatus.NOT_FOUND,
    EvidenceChangedError: HTTPStatus.CONFLICT,
    DecisionRefusedError: HTTPStatus.CONFLICT,
    IllegalTransitionError: HTTPStatus.CONFLICT,
}

Show = Callable[[Request], Response]
Act = Callable[[Request, dict[str, str]], Response]
Take = Callable[[Request], Awaitable[Response]]


def status_of(error: NodeError) -> HTTPStatus:
    """Return the HTTP status of an error."""
    if type(error) in _STATUS_OF:
        return _STATUS_OF[type(error)]
    if isinstance(error, AccessError):
        return access_status(error)
    if isinstance(error, Refused):
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, Transient) else HTTPStatus.INTERNAL_SERVER_ERROR


class Answers:
    """Make routes of functions that show something and functions that change something."""

    def __init__(self, renderer: Renderer, protection: Protection, refusals: Refusals) -> None:
        self._renderer = renderer
        self._protection = protection
        self._refusals = refusals

    def show(self, path: str, endpoint: Show) -> Route:
        """Return the route of a page that only shows something."""

        def answer(request: Request) -> Response:
            try:
                return endpoint(request)
            except NodeError as error:
                return self.error(request, error)

        return _route(path, answer, "GET")

    def act(self, path: str, endpoint: Act) -> Route:
        """Return the route of a form that changes something."""

        async def answer(request: Request) -> Response:
            try:
                fields = await read_form(request)
                self._protection.check_form(request, fields)
                return await run_in_threadpool(endpoint, request, fields)
            except NodeError as error:
                return _closing(await run_in_threadpool(self.error, request, error), error)

        return _route(path, answer, "POST")

    def read(self, path: str, endpoint: Show) -> Route:
        """Return the route of a JSON resource."""

        def answer(request: Request) -> Response:
            try:
                return endpoint(request)
            except NodeError as error:
                return self.problem(request, error)

        return _route(path, answer, "GET")

    def post(self, path: str, endpoint: Callable[[Request, dict[str, Any]], Response]) -> Route:
        """Return the route of a JSON request that changes something."""

        async def answer(request: Request) -> Response:
            try:
                self._protection.check_json(request)
                body = await read_object(request)
                return await run_in_threadpool(endpoint, request, body)
            except NodeError as error:
                return _closing(await run_in_threadpool(self.problem, request, error), error)

        return _route(path, answer, "POST")

    def take(self, path: str, endpoint: Take, is_json: Callable[[Request], bool]) -> Route:
        """Return the route of a request that brings files, which its endpoint reads and checks by itself.

        Parameters
        ----------
        is_json
            Whether the sender of a request reads JSON rather than a page.
        """

        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except NodeError as error:
                tell = self.problem if is_json(request) else self.error
                response = await run_in_threadpool(tell, request, error)
                response.headers["Connection"] = "close"  # the rest of the body is not read
                return response

        return _route(path, answer, "POST")

    def error(self, request: Request, error: NodeError) -> Response:
        """Return the page for an error."""
        status = self._note(request, error)
        response = self._renderer.html(
            request, "error.html", status=int(status), title=status.phrase, message=str(error), code=error.code
        )
        if isinstance(error, AccessError):
            response.headers.update(headers_of(error))
        return response

    def problem(self, request: Request, error: NodeError) -> Response:
        """Return an error as RFC 9457 has it, as all answers under ``/api`` do."""
        status = self._note(request, error)
        body = {"title": status.phrase, "status": int(status), "code": error.code, "detail": str(error)}
        return JSONResponse(body, status_code=int(status), media_type="application/problem+json")

    def _note(self, request: Request, error: NodeError) -> HTTPStatus:
        """Log what failed, and write into the audit trail what was forbidden; return the status."""
        status = status_of(error)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request failed: %s", error, extra={"path": request.url.path, "code": error.code})
        if status is HTTPStatus.FORBIDDEN:
            caller, address = caller_of(request), address_of(request)
            self._refusals.note(
                error.code,
                actor="unknown" if caller is None else caller.name,
                subject=f"{request.method} {request.url.path}",
                source=address if caller is None else caller.name,
                detail={"address": address, "reason": str(error)},
            )
        return status


def _route(path: str, endpoint: Callable[[Request], Response | Awaitable[Response]], method: str) -> Route:
    route = Route(path, endpoint)
    route.methods = {method}
    return route


def _closing(response: Response, error: NodeError) -> Response:
    """Close the connection after the answer if the rest of the body is not read."""
    if isinstance(error, (BodyTooLongError, BodyTooSlowError)):
        response.headers["Connection"] = "close"
    return response

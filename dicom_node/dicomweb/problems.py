"""Turn errors into HTTP answers: JSON problems (RFC 9457), with a status that depends only on the error's class."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from dicom_node.dicomweb.errors import (
    BadRequestError,
    NoSuchResourceError,
    NotAcceptableError,
    NotAllowedError,
    PictureTooLargeError,
    RangeError,
    UnreadableObjectError,
    UnsupportedMediaTypeError,
)
from dicom_node.errors import NodeError, Refused, Transient
from dicom_node.http_intake.errors import BodyTooLargeError, SlowBodyError
from dicom_node.store import NotFoundError, ObjectDamagedError, ObjectMissingError, UnsupportedFilterError

log = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 5

_STATUS_OF: Final[dict[type[Exception], HTTPStatus]] = {
    BadRequestError: HTTPStatus.BAD_REQUEST,
    UnsupportedFilterError: HTTPStatus.BAD_REQUEST,
    NoSuchResourceError: HTTPStatus.NOT_FOUND,
    NotFoundError: HTTPStatus.NOT_FOUND,
    NotAcceptableError: HTTPStatus.NOT_ACCEPTABLE,
    PictureTooLargeError: HTTPStatus.NOT_ACCEPTABLE,
    UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotAllowedError: HTTPStatus.FORBIDDEN,
    RangeError: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    SlowBodyError: HTTPStatus.REQUEST_TIMEOUT,
    UnreadableObjectError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ObjectDamagedError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ObjectMissingError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: Exception) -> HTTPStatus:
    """Return the HTTP status for an error of any package."""
    if type(error) in _STATUS_OF:
        return _STATUS_OF[type(error)]
    if isinstance(error, Refused):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, Transient | MemoryError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def answer_error(request: Request, error: Exception) -> JSONResponse:
    """Return the problem for an error; details of a defect are only in the log, with uvicorn's traceback."""
    status = status_of(error)
    if isinstance(error, NodeError):
        code, detail = error.code, str(error)
    else:
        code, detail = "internal", "the request could not be answered; the log of this node has the details"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and isinstance(error, NodeError):
        log.error("request failed: %s", detail, extra={"path": request.url.path, "code": code})
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    if isinstance(error, RangeError):
        headers = {"Content-Range": f"bytes */{error.args[1]}"}
    return problem(status, code, detail, headers)


def answer_http_exception(_: Request, error: Exception) -> JSONResponse:
    """Return the problem for a request that the router refuses: an unknown path or a wrong method."""
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else None
    return problem(
        status, status.name.lower().replace("_", "-"), f"{status.phrase}: no such DICOMweb service here", headers
    )


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a problem document; ``code`` is stable, ``detail`` is for people."""
    status = HTTPStatus(status)
    body = {"title": status.phrase, "status": int(status), "code": code, "detail": detail}
    return JSONResponse(body, status_code=int(status), media_type="application/problem+json", headers=headers)

"""Read the small bodies of requests: forms and JSON objects, bounded in length and time."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from dicom_node.page.errors import BodyTooLongError, BodyTooSlowError, FormError

MAX_BODY_BYTES: Final = 64 * 1024
BODY_TIMEOUT_S: Final = 30.0  # for all of it
_MAX_FIELDS: Final = 100


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form; of several with one name the last."""
    body = await _body(request)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"))
    except ValueError:
        raise FormError(
            "the form", body[:40].decode(errors="replace"), f"at most {_MAX_FIELDS} fields in UTF-8"
        ) from None


async def read_object(request: Request) -> dict[str, Any]:
    """Return a JSON object."""
    body = await _body(request)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FormError("the body", body[:40].decode(errors="replace"), "a JSON object")
    return found


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise BodyTooLongError(MAX_BODY_BYTES)
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise BodyTooLongError(MAX_BODY_BYTES)
    except TimeoutError as error:
        raise BodyTooSlowError(BODY_TIMEOUT_S) from error
    return body

"""Read the small bodies of requests: forms and JSON objects, bounded."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from dicom_node.page.errors import FormError

MAX_BODY_BYTES: Final = 64 * 1024
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
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FormError("the body", body[:40].decode(errors="replace"), "a JSON object")
    return found


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise FormError("the body", "longer", f"at most {MAX_BODY_BYTES} bytes")
    return body

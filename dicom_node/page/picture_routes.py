"""Send pictures of series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dicom_node.page.errors import FormError, NoSuchPageError
from dicom_node.page.pictures import TYPES, Pictures
from dicom_node.page.uids import is_number, series_uid

# A browser may show again what it has just shown, and keeps it no longer.
_CACHING: Final = "private, max-age=600"


def picture_sender(pictures: Pictures) -> Callable[[Request], Response]:
    """Return the endpoint of ``GET /series/{series}/pictures/{stack}/{name}``."""

    def send(request: Request) -> Response:
        uid, name, stack = series_uid(request), request.path_params["name"], request.path_params["stack"]
        if name not in TYPES:
            raise NoSuchPageError(f"picture {name[:80]!r}")
        if not is_number(stack, max_digits=3):
            raise FormError("the stack in the address", stack, "a number that counts from 1")
        content = pictures.get(uid, name, stack_number=int(stack))
        return Response(content, media_type=TYPES[name], headers={"Cache-Control": _CACHING})

    return send

"""Entity tags of what never changes: instances, their metadata, frames and pictures (RFC 9110 8.8, 13 and PS3.18 8.4).

A tag stands for the objects below a path and for how the client asked for them. A client, or a cache of its own, that
still has an answer sends the tag and gets 304, before anything is read or decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

import dicom_node
from dicom_node.dicomweb.kept_metadata import FORM
from dicom_node.dicomweb.metadata import find_rows
from dicom_node.dicomweb.resources import base_url, path_uids
from dicom_node.store import InstanceRow
from dicom_node.store.index.search import Search

_ASKED: Final = ("accept", "accept-encoding")  # headers that an answer depends on
MAX_TAGS: Final = 64
_KEPT: Final = "private, no-cache"  # may be kept, and is asked for again each time with its tag

Endpoint = Callable[[Request], Response]


class Conditional:
    """Makes endpoints of instances answer 304 where the client has the answer already.

    Parameters
    ----------
    may_be_kept
        Whether browsers may write answers to their disks; otherwise they are told not to.
    """

    def __init__(self, search: Search, *, may_be_kept: bool) -> None:
        self._search = search
        self._may_be_kept = may_be_kept

    def __call__(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint with entity tags."""

        def answer(request: Request) -> Response:
            rows = find_rows(self._search, path_uids(request))
            request.state.rows = rows
            tag = entity_tag(request, rows)
            request.state.tag = tag
            if has_tag(request, tag):
                response = Response(status_code=304)
            else:
                response = endpoint(request)
            if response.status_code < 400:
                response.headers["ETag"] = tag
                response.headers.setdefault("Vary", "Accept, Accept-Encoding")
                if self._may_be_kept:
                    response.headers["Cache-Control"] = _KEPT
            return response

        return answer


def entity_tag(request: Request, rows: Sequence[InstanceRow]) -> str:
    """Return the tag of an answer; a strong one for bulk data, whose bytes are always the same."""
    digest = hashlib.sha256(FORM + dicom_node.__version__.encode())
    asked = [request.headers.get(name, "") for name in _ASKED]
    for text in (base_url(request), request.url.path, request.url.query, *asked):
        digest.update(b"\0" + text.encode("utf-8", "surrogateescape"))
    for row in rows:
        digest.update(f"\0{row.sop_instance_uid} {row.digest} {row.transfer_syntax_uid}".encode())
    is_strong = "/bulkdata/" in request.url.path
    return f'{"" if is_strong else "W/"}"{digest.hexdigest()[:32]}"'


def has_tag(request: Request, tag: str) -> bool:
    """Whether If-None-Match lists a tag, compared weakly (RFC 9110 13.1.2)."""
    listed = request.headers.get("if-none-match", "").split(",", MAX_TAGS)[:MAX_TAGS]
    opaque = tag.removeprefix("W/")
    return any(one.strip() == "*" or one.strip().removeprefix("W/") == opaque for one in listed)

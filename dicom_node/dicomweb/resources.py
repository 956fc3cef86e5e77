"""Paths and absolute URLs of studies, series and instances."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import URL
from starlette.requests import Request

from dicom_node.dicomweb.errors import BadRequestError

ROOT: Final = "/dicom-web"
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_LEVELS: Final = (
    ("study", "studies", "StudyInstanceUID"),
    ("series", "series", "SeriesInstanceUID"),
    ("instance", "instances", "SOPInstanceUID"),
)
"""Path parameter, path segment and keyword of each level, the highest first."""


def path_uids(request: Request) -> dict[str, str]:
    """Return the UIDs in the path, by keyword."""
    uids = {}
    for parameter, _, keyword in _LEVELS:
        uid = request.path_params.get(parameter)
        if uid is None:
            continue
        if len(uid) > 64 or not _UID.fullmatch(uid):
            raise BadRequestError(f"{keyword} in the path", uid, "a UID: digits and dots, at most 64")
        uids[keyword] = uid
    return uids


def resource_name(uids: Mapping[str, str]) -> str:
    """Return the lowest level of a path, for messages."""
    names = [f"{parameter} {uids[keyword]}" for parameter, _, keyword in _LEVELS if keyword in uids]
    return names[-1] if names else "this archive"


def resource_url(request: Request, uids: Mapping[str, str]) -> str:
    """Return the absolute URL of a study, a series or an instance."""
    path = "".join(f"/{segment}/{uids[keyword]}" for _, segment, keyword in _LEVELS if keyword in uids)
    return f"{base_url(request)}{ROOT}{path}"


def base_url(request: Request) -> str:
    """Return the URL of this server for the client, without a slash at its end."""
    public_url: str | None = request.app.state.public_url
    return (str(_client_url(request)) if public_url is None else public_url).rstrip("/")


def _client_url(request: Request) -> URL:
    """Return the base URL that the client used, from its Host header; with a proxy, ``web.public_url`` is needed.

    dicomweb-client 0.61 omits the port from that header (RFC 9110 7.2 requires it). If the host is the address of the
    server's own socket, there is no proxy in between, and the port is known.
    """
    url = request.base_url
    address, port = request.scope.get("server") or (None, None)
    return url.replace(port=port) if url.port is None and port and url.hostname in {address, "localhost"} else url

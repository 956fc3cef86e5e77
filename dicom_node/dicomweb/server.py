"""The web application: which path leads to which service."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.dicomweb.frames import FrameService
from dicom_node.dicomweb.health import HealthService
from dicom_node.dicomweb.metadata import MetadataService
from dicom_node.dicomweb.problems import answer_error, answer_http_exception
from dicom_node.dicomweb.resources import ROOT
from dicom_node.dicomweb.retrieve import RetrieveService
from dicom_node.dicomweb.search import SearchService
from dicom_node.errors import NodeError
from dicom_node.store import Store

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"

# What a sender wrote into a header is data: no browser may take an answer for a page, or run what is in it.
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class SecurityHeaders:
    """Outermost layer, which adds the headers above to every answer, those to defects among them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with more headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_SECURITY_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def build_app(store: Store, *, public_url: str | None = None) -> ASGIApp:
    """DICOMweb under ``/dicom-web`` and health under ``/health`` over an open store.

    Addresses in answers begin with ``public_url``; without it, with what the client called.
    """
    search, health = SearchService(store.search), HealthService(store)
    retrieve = RetrieveService(store.search, store.objects)
    metadata = MetadataService(store.search, store.objects)
    frames = FrameService(store.search, store.objects)
    dicomweb = [
        _get("/studies", search.studies),
        _get("/series", search.series),
        _get("/instances", search.instances),
        _get(_STUDY, retrieve.instances),
        _get(_STUDY + "/metadata", metadata.retrieve),
        _get(_STUDY + "/series", search.series),
        _get(_STUDY + "/instances", search.instances),
        _get(_SERIES, retrieve.instances),
        _get(_SERIES + "/metadata", metadata.retrieve),
        _get(_SERIES + "/instances", search.instances),
        _get(_INSTANCE, retrieve.instances),
        _get(_INSTANCE + "/metadata", metadata.retrieve),
        _get(_INSTANCE + "/frames/{frames}", frames.retrieve),
        _get(_INSTANCE + "/bulkdata/{path:path}", retrieve.bulk_data),
    ]
    app = Starlette(
        routes=[
            Mount(ROOT, routes=dicomweb),
            _get("/health/live", health.live),
            _get("/health/ready", health.ready),
        ],
        exception_handlers={
            HTTPException: answer_http_exception,
            NodeError: answer_error,
            Exception: answer_error,
        },
    )
    app.state.public_url = public_url
    return SecurityHeaders(app)


def _get(path: str, endpoint: Callable[[Request], Response]) -> Route:
    return Route(path, endpoint, methods=["GET"])

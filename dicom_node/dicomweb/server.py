"""The web application: which service answers which path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from dicom_node.access.gatekeeper import Gatekeeper
from dicom_node.access.origins import Origins
from dicom_node.dicomweb.capabilities import ANY_METHOD, CapabilitiesService, capabilities
from dicom_node.dicomweb.conditional import Conditional
from dicom_node.dicomweb.cors import Cors
from dicom_node.dicomweb.decoding_budget import DecodingBudget
from dicom_node.dicomweb.deleting import Administrators, DeleteService
from dicom_node.dicomweb.frames import FrameService
from dicom_node.dicomweb.guard import Guard
from dicom_node.dicomweb.health import HealthService
from dicom_node.dicomweb.kept_metadata import KeptMetadata
from dicom_node.dicomweb.metadata import MetadataService
from dicom_node.dicomweb.metrics import MetricsService, ReadModels
from dicom_node.dicomweb.multipart import ClosingResponse
from dicom_node.dicomweb.problems import answer_error, answer_http_exception
from dicom_node.dicomweb.rendering.service import RenderService
from dicom_node.dicomweb.resources import ROOT
from dicom_node.dicomweb.retrieve import RetrieveService
from dicom_node.dicomweb.search import SearchService
from dicom_node.dicomweb.storing.service import StoreService
from dicom_node.dicomweb.studies_api import API_ROOT, StudiesApi
from dicom_node.dicomweb.wado_uri import WADO_URI, WadoUriService
from dicom_node.errors import NodeError
from dicom_node.gate.documents import Terms
from dicom_node.http_intake.limits import StoreLimits
from dicom_node.store import Store

if TYPE_CHECKING:
    from dicom_node.upper_layer.tls.certificates import CertificateFacts

_HEALTH, _METRICS = "/health", "/metrics"
_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"
_SHOWN = (_STUDY, _SERIES, _INSTANCE, _FRAMES)


def build_app(
    store: Store,
    *,
    terms: Callable[[], Terms],
    decoding_bytes: int,
    public_url: str | None = None,
    storing: StoreLimits | None = None,
    more_routes: Sequence[Route] = (),
    cors_origins: Sequence[str] = (),
    browser_cache: bool = False,
    administrators: Administrators | None = None,
    gatekeeper: Gatekeeper | None = None,
    certificates: Callable[[], Sequence[CertificateFacts]] = tuple,
    read_models: ReadModels = tuple,
) -> ASGIApp:
    """Build the application: DICOMweb under ``/dicom-web``, studies under ``/api``, ``/health`` and ``/metrics``.

    Parameters
    ----------
    terms
        Returns the rules for studies and the pipeline that the node has now.
    decoding_bytes
        Memory for decoding pixels, for all requests together.
    public_url
        Addresses in answers begin with it; if it is None, with what the client called.
    storing
        Bounds of Store requests; if it is None, nothing can be stored.
    more_routes
        Of other rooms that answer in the same process.
    cors_origins
        Sites whose pages may use DICOMweb.
    browser_cache
        Whether browsers may keep what they retrieve.
    administrators
        Who may delete results where nobody signs in; if it is None, nobody.
    gatekeeper
        Stands before every route; if it is None, nobody has to sign in.
    certificates
        Returns the node's certificates for TLS, for ``/health/ready`` and ``/metrics``.
    read_models
        Returns what identifies the models that the node has now, for ``/metrics``.
    """
    gatekeeper = gatekeeper or Gatekeeper(Origins(public_url))
    deletes = administrators is not None or gatekeeper.signs_in
    budget = DecodingBudget(decoding_bytes)
    metadata = MetadataService(store.search, store.objects)
    search = SearchService(store.search, lambda: terms().for_index, KeptMetadata(store.objects))
    health = HealthService(store, certificates)
    studies = StudiesApi(store, terms)
    retrieve = RetrieveService(store.search, store.objects, budget)
    frames = FrameService(store.search, store.objects, budget)
    rendering = RenderService(store.search, store.objects, budget)
    tagged = Conditional(store.search, may_be_kept=browser_cache)
    options = CapabilitiesService(capabilities(stores=storing is not None, deletes=deletes)).options
    routes = [
        _get("/studies", search.studies),
        _get("/series", search.series),
        _get("/instances", search.instances),
        _get(_STUDY, tagged(retrieve.instances)),
        _get(_STUDY + "/metadata", tagged(metadata.retrieve)),
        _get(_STUDY + "/series", search.series),
        _get(_STUDY + "/instances", search.instances),
        _get(_SERIES, tagged(retrieve.instances)),
        _get(_SERIES + "/metadata", tagged(metadata.retrieve)),
        _get(_SERIES + "/instances", search.instances),
        _get(_INSTANCE, tagged(retrieve.instances)),
        _get(_INSTANCE + "/metadata", tagged(metadata.retrieve)),
        _get(_FRAMES, tagged(frames.retrieve)),
        *(_get(path + "/rendered", tagged(rendering.rendered)) for path in _SHOWN),
        *(_get(path + "/thumbnail", tagged(rendering.thumbnail)) for path in _SHOWN),
        _get(_INSTANCE + "/bulkdata/{path:path}", tagged(retrieve.bulk_data)),
        _get("/studies", studies.studies, root=API_ROOT),
        _get(_STUDY, studies.study, root=API_ROOT),
        _get(_STUDY + "/history", studies.history, root=API_ROOT),
        _get("/series/{series}/report", studies.report, root=API_ROOT),
        _get(WADO_URI, WadoUriService(store.search, retrieve, rendering).retrieve, root=""),
        *_store_routes(store, storing),
        *_delete_routes(store, administrators, deletes=deletes),
        *(Route(path, options, methods=ANY_METHOD) for path in (ROOT, ROOT + "/{path:path}")),
        Route(_HEALTH + "/live", health.live),
        Route(_HEALTH + "/ready", health.ready),
        Route(_METRICS, MetricsService(store, certificates, read_models).metrics),
        *more_routes,
    ]
    gatekeeper.guard(routes)
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: answer_http_exception,
            NodeError: answer_error,
            Exception: answer_error,
        },
    )
    app.router.redirect_slashes = False
    app.state.public_url = public_url
    roots = {ROOT, API_ROOT, WADO_URI, _HEALTH, _METRICS, *(_first_segment(route.path) for route in more_routes)}
    open_app = Cors(app, origins=cors_origins, roots=(ROOT, WADO_URI)) if cors_origins else app
    return Guard(open_app, roots=tuple(roots), public_url=public_url)


def _first_segment(path: str) -> str:
    """Return ``/a`` of ``/a/b``."""
    return "/" + path.split("/")[1]


def _store_routes(store: Store, limits: StoreLimits | None) -> list[Route]:
    if limits is None:
        return []
    service = StoreService(store, limits, store.now)
    return [Route(ROOT + path, service.receive, methods=["POST"]) for path in ("/studies", _STUDY)]


def _delete_routes(store: Store, administrators: Administrators | None, *, deletes: bool) -> list[Route]:
    if not deletes:
        return []
    service = DeleteService(store, administrators, store.now)
    return [Route(ROOT + path, service.delete, methods=["DELETE"]) for path in (_SERIES, _INSTANCE)]


def _get(path: str, endpoint: Callable[[Request], Response], *, root: str = ROOT) -> Route:
    """Return the route of a resource."""
    return Route(root + path, _for_head(endpoint), methods=["GET"])  # with HEAD


def _for_head(endpoint: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return an endpoint that answers HEAD with the header of GET; no more is made than the first piece of its body."""

    def answer(request: Request) -> Response:
        response = endpoint(request)
        if request.method != "HEAD":
            return response
        if isinstance(response, ClosingResponse):
            response.close()
        head = Response(status_code=response.status_code)
        is_whole = not isinstance(response, StreamingResponse)  # the length of what is streamed is not known
        head.raw_headers = [
            (name, value) for name, value in response.raw_headers if is_whole or name != b"content-length"
        ]
        return head

    return answer

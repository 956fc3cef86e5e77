"""The web server: DICOMweb, the page for people, health and metrics."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from dicom_node.access.errors import ProviderError
from dicom_node.access.gatekeeper import Gatekeeper
from dicom_node.app.part import awaited_store, running_part
from dicom_node.app.wiring import live_terms, model_identities, store_limits, upload_limits, utc_now, web_gatekeeper
from dicom_node.certificates import Certificates
from dicom_node.dicomweb import Administrators, BoundedServer, build_app
from dicom_node.dicomweb.errors import ListenError
from dicom_node.failures import network_reason
from dicom_node.logs import RepeatedFailure
from dicom_node.page import page_routes
from dicom_node.processes import stop_on_signals
from dicom_node.settings import Settings
from dicom_node.store import Part, Trouble

log = logging.getLogger(__name__)

PROVIDER_WATCH_S = 60.0  # between two looks at whether people can sign in


def run_web(settings: Settings) -> int:
    """Serve DICOMweb, health and metrics until SIGTERM or SIGINT."""
    stopping = threading.Event()
    with (
        running_part("web", settings, stopping) as part,
        awaited_store(settings, stopping, part) as store,
        _listen(settings.web.host, settings.web.port) as listener,
    ):
        if store is None:
            return 0
        public_url = None if settings.web.public_url is None else str(settings.web.public_url)
        terms = live_terms(settings)
        gatekeeper = web_gatekeeper(settings, store)
        web_app = build_app(
            store,
            terms=terms,
            decoding_bytes=settings.web.decoding_bytes,
            public_url=public_url,
            more_routes=page_routes(
                store,
                settings,
                terms,
                gatekeeper=gatekeeper,
                read_models=partial(model_identities, settings),
                uploading=upload_limits(settings),
                clock=store.now,
            )
            if settings.web.page
            else (),
            storing=store_limits(settings),
            cors_origins=settings.web.cors_origins,
            browser_cache=settings.web.browser_cache,
            administrators=_administrators(settings),
            gatekeeper=gatekeeper,
            certificates=Certificates(settings).facts,
            read_models=partial(model_identities, settings),
        )
        server = BoundedServer(web_app, settings.web)
        # Once it runs, uvicorn takes signals itself, and raises them again when it is done: they come here then.
        stop_on_signals(lambda: setattr(server, "should_exit", True))
        if stopping.is_set():  # a signal came before that
            server.should_exit = True
        part.ready()
        log.info("ready", extra={"host": settings.web.host, "port": listener.getsockname()[1]})
        with watched_provider(gatekeeper, part):
            server.run(sockets=[listener])
    return 0


@contextmanager
def watched_provider(gatekeeper: Gatekeeper, part: Part) -> Iterator[None]:
    """Ask the OpenID Connect provider every minute, and say in the log and to `status` while it cannot be asked."""
    provider = None if gatekeeper.identifier is None else gatekeeper.identifier.provider
    if provider is None:
        yield
        return
    failure = RepeatedFailure(log, "nobody can sign in by the provider", "people can sign in by the provider again")
    ending = threading.Event()

    def watch() -> None:
        while True:
            try:
                provider.check()
            except ProviderError as error:
                failure.failed(error)
                part.note(Trouble("oidc", error.code, str(error), utc_now()))
            else:
                failure.worked()
                part.note(None)
            if ending.wait(PROVIDER_WATCH_S):
                return

    thread = threading.Thread(target=watch, name="provider", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()


def _administrators(settings: Settings) -> Administrators | None:
    """Return who may delete results over DICOMweb; None for nobody."""
    web = settings.web
    return Administrators(web.user_header, web.administrators) if web.administrators else None


def _listen(host: str, port: int) -> socket.socket:
    """Socket for HTTP; `ListenError` names the address that cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ListenError(host, port, network_reason(error)) from error

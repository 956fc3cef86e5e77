"""A real server on a free loopback port, over a real store."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dicom_node.dicomweb import Administrators, BoundedServer, StoreLimits, build_app
from dicom_node.gate.documents import Terms
from dicom_node.gate.rules import StudyRules
from dicom_node.settings import WebSettings
from dicom_node.store import Store
from dicom_node.upper_layer.tls.certificates import CertificateFacts

START_TIMEOUT_S = 60.0
UNKNOWN = Terms(StudyRules(), None)  # without models every study is open


@contextmanager
def serve(
    store: Store,
    *,
    public_url: str | None = None,
    terms: Terms = UNKNOWN,
    max_object_bytes: int = 2**30,
    certificates: Callable[[], Sequence[CertificateFacts]] = tuple,
    **settings: object,
) -> Iterator[str]:
    """Serve a store with settings of ``web``; yields the server's URL without a path."""
    listener = socket.create_server(("127.0.0.1", 0))
    web = WebSettings.model_validate(settings)
    limits = StoreLimits(
        max_object_bytes=max_object_bytes,
        max_request_bytes=web.max_request_bytes,
        max_requests=web.max_store_requests,
        receive_timeout_s=web.receive_timeout_s,
        accept_unknown_uids=True,
    )
    app = build_app(
        store,
        terms=lambda: terms,
        decoding_bytes=web.decoding_bytes,
        public_url=public_url,
        storing=limits if web.stow else None,
        cors_origins=web.cors_origins,
        browser_cache=web.browser_cache,
        administrators=Administrators(web.user_header, web.administrators) if web.administrators else None,
        certificates=certificates,
    )
    server = BoundedServer(app, web)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
        listener.close()

"""A real server on a free loopback port, over a real store."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.dicomweb import BoundedServer, build_app
from dicom_node.settings import WebSettings
from dicom_node.store import Store

START_TIMEOUT_S = 60.0


@contextmanager
def serve(store: Store, *, public_url: str | None = None, **settings: object) -> Iterator[str]:
    """Serve a store with settings of ``web``; yields the server's URL without a path."""
    listener = socket.create_server(("127.0.0.1", 0))
    web = WebSettings.model_validate(settings)
    server = BoundedServer(build_app(store, decoding_bytes=web.decoding_bytes, public_url=public_url), web)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
        listener.close()

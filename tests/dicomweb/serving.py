"""A real server on a free loopback port, over a real store."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from dicom_node.dicomweb import build_app
from dicom_node.store import Store

START_TIMEOUT_S = 20.0


@contextmanager
def serve(store: Store, *, public_url: str | None = None) -> Iterator[str]:
    """Serve a store; gives the server's URL without a path."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = build_app(store, public_url=public_url)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", http="h11")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
        listener.close()

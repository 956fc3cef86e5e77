"""The page as the web process serves it, over a real store on a free loopback port."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import httpx
from starlette.types import ASGIApp

from dicom_node.app import store_limits, upload_limits, utc_now, web_gatekeeper
from dicom_node.dicomweb import BoundedServer, build_app
from dicom_node.gate.documents import Terms
from dicom_node.page import page_routes
from dicom_node.settings import Settings
from dicom_node.store import Store
from tests.export.clearing import DIGEST, RULES

START_TIMEOUT_S = 60.0
TERMS = Terms(RULES, DIGEST)


def web_app(
    store: Store, checked: Settings, *, terms: Terms = TERMS, clock: Callable[[], datetime] = utc_now
) -> ASGIApp:
    """The application that the web process serves."""
    gatekeeper = web_gatekeeper(checked, store, clock=clock)
    return build_app(
        store,
        terms=lambda: terms,
        decoding_bytes=checked.web.decoding_bytes,
        public_url=None if checked.web.public_url is None else str(checked.web.public_url),
        more_routes=page_routes(store, checked, lambda: terms, gatekeeper=gatekeeper, uploading=upload_limits(checked)),
        storing=store_limits(checked),
        gatekeeper=gatekeeper,
    )


@contextmanager
def serve_page(
    store: Store,
    settings: Mapping[str, Any] | None = None,
    *,
    terms: Terms = TERMS,
    clock: Callable[[], datetime] = utc_now,
) -> Iterator[str]:
    """Serve a store as the web process does; yields the server's URL without a path."""
    checked = Settings.model_validate(settings or {})
    listener = socket.create_server(("127.0.0.1", 0))
    server = BoundedServer(web_app(store, checked, terms=terms, clock=clock), checked.web)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
        listener.close()


@dataclass
class Reader:
    """Somebody who reads pages and sends their forms, without scripts: cookies are kept, hidden fields are sent."""

    url: str
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def hidden(self, path: str) -> dict[str, str]:
        """Hidden fields of the page's first form that changes something."""
        text = self.get(path).text
        form = re.search(r'<form[^>]*method="post".*?</form>', text, re.DOTALL)
        assert form is not None, text
        return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[0]))

    def send(self, path: str, fields: Mapping[str, str], **headers: str) -> httpx.Response:
        return self.client.post(path, data=dict(fields), headers=headers)

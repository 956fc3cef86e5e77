"""A proxy between the node and a server on loopback that records requests and can fail in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


class RecordingProxy:
    """What came through; ``refuse`` is asked for each request, and one for which it returns a status is not passed."""

    def __init__(self, url: str) -> None:
        self.behind = url
        self.requests: list[tuple[str, str]] = []  # method and path
        self.refuse: Callable[[str, str], int | None] = lambda _method, _path: None
        self.url = ""

    def paths(self) -> list[str]:
        """Paths of all requests."""
        return [path for _, path in self.requests]


@contextmanager
def start_recording_proxy(url: str) -> Iterator[RecordingProxy]:
    """Pass requests on to ``url``."""
    proxy = RecordingProxy(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            proxy.requests.append((self.command, self.path))
            status = proxy.refuse(self.command, self.path)
            if status is not None:
                self._answer(status, {}, b"")
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            answer = httpx.request(
                self.command, proxy.behind + self.path, content=body, headers=headers, trust_env=False, timeout=30.0
            )
            kept = {name: answer.headers[name] for name in ("etag", "location") if name in answer.headers}
            self._answer(answer.status_code, kept, answer.content)

        do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - names of the base class

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

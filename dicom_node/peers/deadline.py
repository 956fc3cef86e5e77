"""A deadline for whole HTTP requests, because httpx's timeouts start again with every byte received."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Deadline:
    """Closes the connection of a client's request when its time is over, so that the request fails.

    Use one per client, with one request at a time. Pass `trace` to httpx as the extension of that name with every
    request, which tells this class the connection.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether the time of the latest request ended before the request did."""
        return self._is_over

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Limit the block to ``seconds``; any later read from or write to the connection fails."""
        self._is_over = False
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the socket of each new connection (httpcore, "Trace extension")."""
        if event not in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            return
        with self._lock:
            self._socket = info["return_value"].get_extra_info("socket")
            if self._is_over:
                self._shut()

    def _expire(self) -> None:
        with self._lock:
            self._is_over = True
            self._shut()

    def _shut(self) -> None:
        try:
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed already
            return

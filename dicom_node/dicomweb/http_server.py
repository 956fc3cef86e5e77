"""Limit the number of connections, how long they may be idle, and how slowly clients may read.

uvicorn itself limits the number of concurrent requests and the time between two requests. It has no time limit for the
first request, for the rest of a header, and for a client that does not read its answer.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import time
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from dicom_node.settings import WebSettings

log = logging.getLogger(__name__)

STOP_TIMEOUT_S: Final = 10
MAX_HEADER_BYTES: Final = 32 * 1024  # request line and header fields; other servers take 8 to 64 kB
SUMMARY_PERIOD_S: Final = 60.0
OTHER_DESCRIPTORS: Final = 128  # database, log, libraries
DESCRIPTORS_PER_CONNECTION: Final = 2  # the socket, and the object that is being sent
_TICKS_PER_LOOK: Final = 5  # of uvicorn, a tenth of a second each
_SHORT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_TURNED_AWAY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class BoundedServer(uvicorn.Server):
    """Server that closes connections whose clients send no request or do not read the answer.

    Parameters
    ----------
    app
        The application.
    settings
        ``proxies``, ``max_connections``, ``header_timeout_s``, ``keep_alive_s`` and ``send_timeout_s`` are used here.
    """

    server_state: _State

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Without it, uvicorn believes whoever calls from this machine, and what the environment names.
                forwarded_allow_ips=list(settings.proxies),
                backlog=128,
                timeout_keep_alive=int(settings.keep_alive_s),
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            )
        )
        self.server_state = _State(settings, max_connections=_affordable_connections(settings.max_connections))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and log descriptor shortages at a bounded rate."""
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Check all connections every half second."""
        if counter % _TICKS_PER_LOOK == 0:
            now_s = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.close_if_overdue(now_s)
            self.server_state.sum_up(now_s)
        return await super().on_tick(counter)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _SHORT_OF_DESCRIPTORS:
            self.server_state.count("no descriptor left")
        else:
            loop.default_exception_handler(context)


class BoundedProtocol(H11Protocol):
    """One connection, with the times since which it is idle, not read, or being closed."""

    server_state: _State

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection; if there are too many, close an idle one, or refuse this one with 503."""
        self.logger = self.server_state.connection_logger
        # asyncio does so only for sockets that name their protocol. Otherwise an answer waits 40 ms: its body for the
        # client to acknowledge the header, and the acknowledgement for something to send with it.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.idle_since_s = time.monotonic()
        self._unread_since_s: float | None = None
        self._closing_since_s: float | None = None
        super().connection_made(transport)
        if len(self.connections) > self.server_state.max_connections and not self._make_room():
            self.server_state.count("turned away with 503")
            transport.write(_TURNED_AWAY)
            transport.close()

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Note the time from which the connection is idle."""
        self.idle_since_s = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note the time from which the client does not read."""
        self._unread_since_s = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Continue: the client has read what was buffered."""
        self._unread_since_s = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Count invalid requests instead of logging each one."""
        self.server_state.count("no HTTP")
        super().send_400_response(msg)

    def close_if_overdue(self, now_s: float) -> None:
        """Close the connection if the time for the client's next step is over."""
        settings = self.server_state.settings
        if self.transport.is_closing():
            self._closing_since_s = self._closing_since_s or now_s
            if now_s - self._closing_since_s > settings.send_timeout_s:
                self.abort("answer not read")
        elif self._unread_since_s is not None and now_s - self._unread_since_s > settings.send_timeout_s:
            self.abort("answer not read")
        elif self.is_idle and now_s - self.idle_since_s > self._patience_s:
            self.abort("no request")

    @property
    def _patience_s(self) -> float:
        """Time for the next request in seconds; after the first one, ``keep_alive_s`` until it begins is added."""
        settings = self.server_state.settings
        return settings.header_timeout_s if self.cycle is None else settings.header_timeout_s + settings.keep_alive_s

    def _make_room(self) -> bool:
        """Close the longest idle connection, preferably one without any request; return False if none is idle."""
        idle = [other for other in self.connections if isinstance(other, BoundedProtocol) and other.is_idle]
        victims = [other for other in idle if other is not self and not other.transport.is_closing()]
        if not victims:
            return False
        oldest = min(victims, key=lambda other: (other.cycle is not None, other.idle_since_s))
        oldest.abort("idle, closed for another one")
        return True

    def abort(self, why: str) -> None:
        """Close the connection at once and discard its buffered data."""
        self.server_state.count(why)
        self.transport.abort()


class _State(uvicorn.server.ServerState):
    """State of all connections: their limits, and how many were closed for which reason since the last log line."""

    def __init__(self, settings: WebSettings, *, max_connections: int) -> None:
        super().__init__()
        self.settings = settings
        self.max_connections = max_connections
        self.connection_logger = logging.getLogger("uvicorn.error.connection")
        self.connection_logger.setLevel(logging.ERROR)  # what any client can cause is counted instead
        self._counts: dict[str, int] = {}
        self._next_summary_s = 0.0

    def count(self, why: str) -> None:
        """Count a connection that was closed before its request was answered."""
        self._counts[why] = self._counts.get(why, 0) + 1

    def sum_up(self, now_s: float) -> None:
        """Log the counts, at most once in `SUMMARY_PERIOD_S`."""
        if self._counts and now_s >= self._next_summary_s:
            counted = ", ".join(f"{why}: {number}" for why, number in sorted(self._counts.items()))
            log.warning("connections closed: %s", counted, extra={"n_open": len(self.connections)})
            self._counts.clear()
            self._next_summary_s = now_s + SUMMARY_PERIOD_S


def _affordable_connections(wanted: int) -> int:
    """Return the wanted number of connections, or as many as the limit of open files allows; raise the soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = OTHER_DESCRIPTORS + wanted * DESCRIPTORS_PER_CONNECTION
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    affordable = max(1, min(wanted, (soft - OTHER_DESCRIPTORS) // DESCRIPTORS_PER_CONNECTION))
    if affordable < wanted:
        log.warning(
            "web.max_connections is %d, but the limit of open files (ulimit -n) is %d: %d connections are accepted",
            wanted,
            soft,
            affordable,
        )
    return affordable

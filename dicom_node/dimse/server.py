"""The listening socket: a thread for each connection, bounded in number, and a stop that loses nothing."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from dicom_node.dimse.association import ARTIM_TIMEOUT_S, Association, AssociationLimits
from dicom_node.dimse.errors import ListenError
from dicom_node.dimse.negotiation import AdmissionPolicy
from dicom_node.dimse.places import Places
from dicom_node.failures import network_reason
from dicom_node.settings import DimseSettings
from dicom_node.store import Store

log = logging.getLogger(__name__)

BACKLOG = 128
# Connections beyond the associations: those still negotiating, being refused, or closing.
SPARE_CONNECTIONS = 32
STOP_GRACE_S = 20.0
ACCEPT_PAUSE_S = 0.1  # after accept failed for want of file descriptors


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DimseServer:
    """C-ECHO and C-STORE SCP over a store; use it in a ``with``, or call `start` and `stop`.

    Parameters
    ----------
    store
        Where instances go; it stays open when the server stops.
    ae_title
        Our own, which requestors have to call unless the settings say otherwise.
    artim_timeout_s
        Time for the association request to come.
    """

    def __init__(
        self,
        store: Store,
        settings: DimseSettings,
        *,
        ae_title: str,
        clock: Callable[[], datetime] = _utc_now,
        artim_timeout_s: float = ARTIM_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._policy = AdmissionPolicy(
            ae_title, settings.require_called_ae_title, frozenset(settings.allowed_calling_ae_titles)
        )
        self._limits = AssociationLimits(settings.max_pdu_bytes, settings.idle_timeout_s, artim_timeout_s)
        self._places = Places(settings.max_associations)
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Port that we listen on; chosen by the system when the settings say 0."""
        if self._listener is None:
            raise RuntimeError("the server was not started")
        return int(self._listener.getsockname()[1])

    @property
    def n_associations(self) -> int:
        """How many associations are in."""
        return self._places.n_taken

    def start(self) -> None:
        """Listen, and accept from now on.

        Raises
        ------
        ListenError
            The address cannot be listened on; another process may have it.
        """
        host, port = self._settings.host, self._settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise ListenError(host, port, network_reason(error)) from error
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), name="dimse-accept")
        self._acceptor.start()
        log.info("listening for associations", extra={"ae_title": self._policy.ae_title, "port": self.port})

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Accept nothing more, finish the messages that are on their way, end the associations.

        Between two messages an association is aborted at once; the peer knows what was acknowledged. A message that
        is not through after ``grace_s`` is dropped unacknowledged.
        """
        if self._listener is None or self._acceptor is None:
            return
        end_at = time.monotonic() + grace_s
        log.info("stopping to listen for associations", extra={"n_associations": self.n_associations})
        self._places.close()
        self._acceptor.join()
        self._listener.close()
        self._join(end_at)
        with self._lock:
            late = dict(self._connections)
        for connection in late.values():
            _shut(connection)
        for thread in late:
            thread.join()
        self._places.release()
        self._listener = self._acceptor = None
        log.info("stopped listening for associations", extra={"n_dropped": len(late)})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        poller.register(self._places.wake, select.POLLIN)
        listener.setblocking(False)  # the peer may be gone again between poll and accept
        while not self._places.is_closed:
            poller.poll()
            try:
                connection, address = listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:  # no file descriptors, or the peer gave up
                log.warning("connection not accepted: %s", error.strerror)
                time.sleep(ACCEPT_PAUSE_S)
                continue
            self._begin(connection, address[0])

    def _begin(self, connection: socket.socket, host: str) -> None:
        with self._lock:
            if len(self._connections) >= self._settings.max_associations + SPARE_CONNECTIONS:
                connection.close()
                log.warning("connection closed: too many are open", extra={"host": host})
                return
            thread = threading.Thread(target=self._serve, args=(connection, host), name=f"dimse-{host}")
            self._connections[thread] = connection
        thread.start()

    def _serve(self, connection: socket.socket, host: str) -> None:
        try:
            # Answers are small and must not wait for the acknowledgement of the one before (Nagle).
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Association(
                connection,
                host,
                self._store,
                policy=self._policy,
                limits=self._limits,
                places=self._places,
                clock=self._clock,
            ).run()
        finally:
            connection.close()
            with self._lock:
                del self._connections[threading.current_thread()]

    def _join(self, end_at: float) -> None:
        with self._lock:
            threads = list(self._connections)
        for thread in threads:
            thread.join(max(0.0, end_at - time.monotonic()))


def _shut(connection: socket.socket) -> None:
    """Wake the thread that reads from or writes to a connection."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("connection was closed already")

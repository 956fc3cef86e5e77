"""The DIMSE server: listening sockets (plain, TLS), a limited number of connections with a thread each, a stop."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from dicom_node.dimse.admission import AdmissionPolicy, known_titles
from dicom_node.dimse.association import ARTIM_TIMEOUT_S, Association, AssociationLimits
from dicom_node.dimse.connection_log import ConnectionLog
from dicom_node.dimse.connections import Connection, OpenConnections, shut
from dicom_node.dimse.errors import ListenError
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.dimse.slots import AssociationSlots
from dicom_node.dimse.tls import listening_context
from dicom_node.failures import network_reason
from dicom_node.settings import DimsePeer, DimseSettings
from dicom_node.store import Store
from dicom_node.upper_layer.tls.files import ReloadingContext

log = logging.getLogger(__name__)

BACKLOG = 128
STOP_GRACE_S = 20.0
ACCEPT_PAUSE_S = 0.1  # after accept failed for lack of file descriptors
SUM_UP_S = 10.0  # how often to check for counts to log


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Listener:
    """A listening socket; with a context, what connects to it has to use TLS."""

    socket: socket.socket
    context: ReloadingContext | None

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])


class DimseServer:
    """C-ECHO, C-STORE, C-FIND, C-GET and C-MOVE SCP over a store; SCU of storage commitment for its reports.

    Use it in a ``with``, or call `start` and `stop`.

    Parameters
    ----------
    store
        Store for the instances; it stays open when the server stops.
    ae_title
        AE title of the node, which requestors have to call unless the settings say otherwise.
    peers
        Of the settings: from where each may call, and whether it may store.
    commitment_peers
        AE title → names of the peers that may report on storage commitment with it.
    query_retrieve
        Who may query and retrieve; without it nobody may.
    artim_timeout_s
        Time for the association request to arrive.
    """

    def __init__(
        self,
        store: Store,
        settings: DimseSettings,
        *,
        ae_title: str,
        peers: Sequence[DimsePeer] = (),
        commitment_peers: Mapping[str, Sequence[str]] | None = None,
        query_retrieve: QueryRetrieve | None = None,
        clock: Callable[[], datetime] = _utc_now,
        artim_timeout_s: float = ARTIM_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._settings = settings
        self._commitment_peers = commitment_peers or {}
        self._query_retrieve = query_retrieve
        self._clock = clock
        self._policy = AdmissionPolicy(
            ae_title,
            settings.require_called_ae_title,
            frozenset(settings.allowed_calling_ae_titles),
            known_titles(peers),
            settings.known_peers_only,
        )
        self._limits = AssociationLimits(
            settings.max_pdu_bytes,
            settings.max_object_bytes,
            settings.idle_timeout_s,
            artim_timeout_s,
            settings.accept_unknown_uids,
        )
        self._slots = AssociationSlots(
            settings.max_associations, n_per_host=settings.max_associations_per_host or settings.max_associations
        )
        self._connections = OpenConnections(settings.max_associations)
        self._connection_log = ConnectionLog()
        self._listeners: list[_Listener] = []
        self._acceptor: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Listening port without TLS; chosen by the system if the settings say 0."""
        return self._port(with_tls=False)

    @property
    def tls_port(self) -> int:
        """Listening port for TLS."""
        return self._port(with_tls=True)

    def _port(self, *, with_tls: bool) -> int:
        for listener in self._listeners:
            if (listener.context is not None) is with_tls:
                return listener.port
        raise RuntimeError("the server was not started, or has no such port")

    @property
    def n_associations(self) -> int:
        """Number of open associations."""
        return self._slots.n_taken

    def start(self) -> None:
        """Listen and accept connections.

        Raises
        ------
        ListenError
            The node cannot listen on the address; another process may use it.
        TlsFilesError
            A file for TLS is missing or cannot be used.
        """
        settings = self._settings
        context = listening_context(settings.tls)
        try:
            if settings.plain:
                self._listen(settings.port, None)
            if settings.tls.port is not None:
                self._listen(settings.tls.port, context)
        except ListenError:
            self._close_listeners()
            raise
        self._acceptor = threading.Thread(target=self._accept, args=(tuple(self._listeners),), name="dimse-accept")
        self._acceptor.start()

    def _listen(self, port: int, context: ReloadingContext | None) -> None:
        host = self._settings.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = _Listener(socket.create_server((host, port), family=family, backlog=BACKLOG), context)
        except OSError as error:
            raise ListenError(host, port, network_reason(error)) from error
        listener.socket.setblocking(False)  # the peer may have left between poll and accept
        self._listeners.append(listener)
        fields = {"ae_title": self._policy.ae_title, "port": listener.port, "tls": context is not None}
        log.info("listening for associations", extra=fields)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.socket.close()
        self._listeners = []

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Accept no more connections, finish messages in transit, and end the associations.

        Between two messages an association is aborted at once; the peer knows what was acknowledged. A message that
        is not complete after ``grace_s`` is dropped unacknowledged.
        """
        if self._acceptor is None:
            return
        end_at = time.monotonic() + grace_s
        log.info("no more associations are accepted", extra={"n_associations": self.n_associations})
        self._slots.close()
        self._acceptor.join()
        self._close_listeners()
        for connection in self._connections.snapshot():
            _join(connection, max(0.0, end_at - time.monotonic()))
        late = self._connections.snapshot()
        for connection in late:
            shut(connection)
        for connection in late:
            _join(connection, None)
        self._slots.release()
        self._acceptor = None
        self._connection_log.sum_up(is_last=True)
        log.info("all associations have ended", extra={"n_dropped": len(late)})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self, listeners: Sequence[_Listener]) -> None:
        poller = select.poll()
        poller.register(self._slots.wake, select.POLLIN)
        for listener in listeners:
            poller.register(listener.socket, select.POLLIN)
        while not self._slots.is_closed:
            ready = dict(poller.poll(SUM_UP_S * 1000))
            self._connection_log.sum_up()
            for listener in listeners:
                if listener.socket.fileno() in ready:
                    self._accept_from(listener)

    def _accept_from(self, listener: _Listener) -> None:
        try:
            accepted, address = listener.socket.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no file descriptors, or the peer gave up
            self._connection_log.note_not_accepted(network_reason(error), "unknown")
            self._connections.evict_oldest()
            time.sleep(ACCEPT_PAUSE_S)
            return
        if listener.context is not None:
            try:
                # The handshake follows in the thread of the connection.
                accepted = listener.context.current().wrap_socket(
                    accepted, server_side=True, do_handshake_on_connect=False
                )
            except (OSError, ValueError) as error:  # the peer has left, or sent bytes and left
                accepted.close()
                self._connection_log.note_not_accepted(str(error), address[0])
                return
        self._begin(Connection(accepted, address[0]))

    def _begin(self, connection: Connection) -> None:
        evicted = self._connections.add(connection)
        if evicted is not None:
            self._connection_log.note_eviction(evicted)
        connection.thread = threading.Thread(target=self._serve, args=(connection,), name=f"dimse-{connection.host}")
        try:
            connection.thread.start()
        except RuntimeError as error:  # the system's limit of threads
            connection.socket.close()
            self._connections.remove(connection)
            self._connection_log.note_not_accepted(str(error), connection.host)

    def _serve(self, connection: Connection) -> None:
        try:
            # Answers are small and must not wait for the acknowledgement of the one before (Nagle).
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Association(
                connection,
                self._store,
                policy=self._policy,
                limits=self._limits,
                commitment_peers=self._commitment_peers,
                query_retrieve=self._query_retrieve,
                slots=self._slots,
                connection_log=self._connection_log,
                clock=self._clock,
            ).run()
        except OSError as error:  # the peer has reset the connection already
            log.debug("connection ended at once: %s", error, extra={"host": connection.host})
        finally:
            connection.socket.close()
            self._connections.remove(connection)


def _join(connection: Connection, timeout_s: float | None) -> None:
    if connection.thread is not None and connection.thread.is_alive():
        connection.thread.join(timeout_s)

"""Track open TCP connections, and choose which one to close if there are too many.

A connection with an association is never closed for another one. All others (not negotiated yet, refused, or
ending) may be, the oldest first, so that peers that connect and stay silent block nobody.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass

SPARE_CONNECTIONS = 64  # beyond the associations
SPARE_PER_HOST = 32  # a sender may open a few associations at once


@dataclass(slots=True, eq=False)
class Connection:
    """An accepted connection and the thread that serves it."""

    socket: socket.socket
    host: str
    thread: threading.Thread | None = None
    holds_slot: bool = False
    is_evicted: bool = False


class OpenConnections:
    """All connections of a server, in the order in which they were accepted."""

    def __init__(self, max_associations: int) -> None:
        self._limit = max_associations + SPARE_CONNECTIONS
        self._connections: dict[Connection, None] = {}
        self._lock = threading.Lock()

    def add(self, connection: Connection) -> Connection | None:
        """Add a connection, and shut down another one if there are too many; return that one."""
        with self._lock:
            self._connections[connection] = None
            evictable = [each for each in self._connections if not each.holds_slot and not each.is_evicted]
            of_host = [each for each in evictable if each.host == connection.host]
            if len(of_host) > SPARE_PER_HOST:
                return _evict(of_host[0])
            if sum(not each.is_evicted for each in self._connections) > self._limit:
                return _evict(evictable[0])
        return None

    def evict_oldest(self) -> Connection | None:
        """Shut down the oldest connection without an association, because file descriptors are exhausted."""
        with self._lock:
            for each in self._connections:
                if not each.holds_slot and not each.is_evicted:
                    return _evict(each)
        return None

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was closed."""
        with self._lock:
            self._connections.pop(connection, None)

    def snapshot(self) -> list[Connection]:
        """Return all current connections."""
        with self._lock:
            return list(self._connections)


def shut(connection: Connection) -> None:
    """Wake the thread that reads from or writes to a connection; it then finds the end of the stream."""
    try:
        # Not the method of an SSLSocket, which takes the TLS state away from the thread that uses it.
        socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)
    except OSError:  # closed already
        return


def _evict(connection: Connection) -> Connection:
    connection.is_evicted = True
    shut(connection)
    return connection

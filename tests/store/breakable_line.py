"""A line to a server that can be broken at an exact moment, in each way in which a real one breaks."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds


class Break(StrEnum):
    """What the client sees of an outage."""

    CLOSED = "closed"  # the server ends its connections
    RESET = "reset"  # it is killed, or a firewall answers in its place
    SILENT = "silent"  # the cable is cut: connections stay open and nothing passes


class BreakableLine:
    """A port on loopback that leads to another one until it breaks.

    Pieces are what one side sends at once, in either direction. While the line is broken, new connections meet the
    same outage.
    """

    def __init__(self, listener: socket.socket, target_port: int) -> None:
        self.port: int = listener.getsockname()[1]
        self.is_broken = False
        self._listener = listener
        self._target_port = target_port
        self._lock = threading.Lock()
        self._far_ends: dict[socket.socket, socket.socket] = {}
        self._pieces_left: int | None = None
        self._how = Break.CLOSED
        self._is_brief = False
        self._is_over = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def break_at(self, piece_number: int, how: Break, *, is_brief: bool = False) -> None:
        """Break instead of passing on the ``piece_number``-th piece (from 1) that is sent from now on.

        A brief outage ends the connections that are open, and is over.
        """
        with self._lock:
            self._pieces_left, self._how, self._is_brief = piece_number, how, is_brief

    def mend(self) -> None:
        """Lead to the server again; connections that saw the outage stay broken."""
        with self._lock:
            if self.is_broken:
                self._end_all()
            self._pieces_left, self.is_broken = None, False

    def serve(self) -> None:
        """Pass pieces on until `stop` is called."""
        while not self._is_over:
            for key, _ in self._selector.select(0.1):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj in self._far_ends:
                        self._pass_on(key.fileobj)
        with self._lock:
            self._end_all()
        self._selector.close()

    def stop(self) -> None:
        """End `serve` and all connections."""
        self._is_over = True

    def _accept(self) -> None:
        near = self._listener.accept()[0]
        far = socket.socket() if self.is_broken else socket.create_connection(("127.0.0.1", self._target_port))
        self._far_ends |= {near: far, far: near}
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.is_broken:
            for end in (near, far):
                self._selector.register(end, selectors.EVENT_READ)
        elif self._how is not Break.SILENT:
            self._end(near)

    def _pass_on(self, source: socket.socket) -> None:
        piece = b""
        with suppress(OSError):
            piece = source.recv(1 << 16)
        if not piece:
            self._end(source)
        elif not self._is_lost():
            with suppress(OSError):
                self._far_ends[source].sendall(piece)

    def _is_lost(self) -> bool:
        if self.is_broken or self._pieces_left is None:
            return self.is_broken
        self._pieces_left -= 1
        if self._pieces_left:
            return False
        self._pieces_left, self.is_broken = None, not self._is_brief  # said before anybody can notice
        if self._how is not Break.SILENT:
            self._end_all()
        return True

    def _end_all(self) -> None:
        while self._far_ends:
            self._end(next(iter(self._far_ends)))

    def _end(self, end: socket.socket) -> None:
        far = self._far_ends.pop(end)
        del self._far_ends[far]
        for one in (end, far):
            with suppress(KeyError):  # accepted while the line was broken
                self._selector.unregister(one)
            if self._how is Break.RESET:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            one.close()


@contextmanager
def breakable_line(target_port: int) -> Iterator[BreakableLine]:
    """A line to ``target_port`` on loopback; gone, with all its connections, when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = BreakableLine(listener, target_port)
        thread = threading.Thread(target=line.serve)
        thread.start()
        try:
            yield line
        finally:
            line.stop()
            thread.join()

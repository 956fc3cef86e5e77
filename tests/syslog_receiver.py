"""A syslog receiver over UDP, TCP and TLS on a free loopback port, which reads what RFC 5424, 5425 and 6587 say."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue


class Receiver:
    """Messages as they come, whole."""

    def __init__(self, kind: str, context: ssl.SSLContext | None) -> None:
        self.messages: Queue[bytes] = Queue()
        self._context = context
        self._stopping = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"{kind}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._socket.settimeout(0.2)
        if kind != "udp":
            self._socket.listen()
        self._thread = threading.Thread(target=self._receive if kind == "udp" else self._accept)
        self._thread.start()

    def take(self, number: int) -> list[bytes]:
        """The next messages."""
        return [self.messages.get(timeout=30) for _ in range(number)]

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while not self._stopping:
            try:
                self.messages.put(self._socket.recv(70_000))
            except TimeoutError:
                continue

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            try:
                connection.settimeout(30)
                with self._context.wrap_socket(connection, server_side=True) if self._context else connection as stream:
                    self._read(stream)
            except (OSError, ssl.SSLError):  # one that trusts somebody else
                connection.close()

    def _read(self, stream: socket.socket) -> None:
        with stream.makefile("rb") as file:
            while length := b"".join(iter(lambda: file.read(1).strip(), b"")):
                message = file.read(int(length))
                assert len(message) == int(length)
                self.messages.put(message)


@contextmanager
def receiving(kind: str, certificate: Path | None = None) -> Iterator[Receiver]:
    """Receive for the time of the block; ``certificate`` has the key too."""
    context = None
    if kind == "tls":
        assert certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    receiver = Receiver(kind, context)
    try:
        yield receiver
    finally:
        receiver.stop()

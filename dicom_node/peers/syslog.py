"""Send audit messages to a syslog receiver: RFC 5424 over UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425)."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from dicom_node.peers.errors import SyslogError
from dicom_node.settings import AuditSettings
from dicom_node.upper_layer.tls.errors import TlsFilesError

TIMEOUT_S: Final = 10.0
DEFAULT_PORTS: Final = {"udp": 514, "tcp": 601, "tls": 6514}
MAX_DATAGRAM_BYTES: Final = 65_000
_PRIORITY: Final = 10 * 8 + 5  # security/authorisation messages, notice (PS3.15 A.6)
_MESSAGE_ID: Final = "DICOM+RFC3881"  # PS3.15 A.6
_APPLICATION: Final = "dicom-node"
_BOM: Final = b"\xef\xbb\xbf"


def syslog_frame(xml: bytes, at: datetime, *, host: str) -> bytes:
    """Return a message of RFC 5424 with an audit message in it."""
    moment = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    header = f"<{_PRIORITY}>1 {moment} {host[:255] or '-'} {_APPLICATION} {os.getpid()} {_MESSAGE_ID} - "
    return header.encode("ascii", errors="replace") + _BOM + xml


class SyslogClient:
    """A connection to the receiver that the settings name; use it in a ``with``.

    Raises
    ------
    SyslogError
        The receiver cannot be reached, or ends the connection.
    TlsFilesError
        A file for TLS is missing or cannot be used.
    """

    def __init__(self, settings: AuditSettings) -> None:
        self._url = str(settings.syslog)
        parts = urlsplit(self._url)
        self._kind, self._host = parts.scheme, parts.hostname or ""
        self._port = parts.port or DEFAULT_PORTS[self._kind]
        try:
            self._socket = self._connect(settings)
        except OSError as error:
            raise SyslogError(self._url, error.strerror or type(error).__name__) from error

    def send(self, message: bytes) -> None:
        """Send a message; over UDP nobody says whether it arrived."""
        try:
            if self._kind == "udp":
                self._socket.send(message[:MAX_DATAGRAM_BYTES])
            else:
                self._socket.sendall(b"%d %s" % (len(message), message))  # octet counting
        except OSError as error:
            raise SyslogError(self._url, error.strerror or type(error).__name__) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc is None and isinstance(self._socket, ssl.SSLSocket):
                self._socket.unwrap()  # the receiver has read everything before the connection ends
        except OSError:
            pass  # it was sent all the same
        finally:
            self._socket.close()

    def _connect(self, settings: AuditSettings) -> socket.socket:
        if self._kind == "udp":
            family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            sender = socket.socket(family, kind, protocol)
            sender.connect(address)
            return sender
        context = _tls_context(settings) if self._kind == "tls" else None
        connection = socket.create_connection((self._host, self._port), timeout=TIMEOUT_S)
        if context is None:
            return connection
        try:
            return context.wrap_socket(connection, server_hostname=self._host)
        except OSError:
            connection.close()
            raise


def _tls_context(settings: AuditSettings) -> ssl.SSLContext:
    """Return a context with the files that the settings name; raise `TlsFilesError` if one cannot be used."""
    authorities, certificate, key = settings.syslog_ca_file, settings.syslog_certificate, settings.syslog_key
    with _named("syslog_ca_file", authorities):
        context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        with _named("syslog_certificate", certificate):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
        with _named("syslog_key", key) if key else _named("syslog_certificate", certificate):
            context.load_cert_chain(certificate, key)
    return context


@contextmanager
def _named(setting: str, path: Path | None) -> Iterator[None]:
    """Translate errors in loading a file for TLS."""
    try:
        yield
    except OSError as error:
        finding = "holds no PEM that fits" if isinstance(error, ssl.SSLError) else error.strerror
        words = f"{finding}; audit messages wait, correct the setting or the file"
        raise TlsFilesError(f"audit.{setting}", str(path), words) from error

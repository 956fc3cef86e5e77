"""The TLS handshake on a connected socket, limited in time, and what its failures mean."""

from __future__ import annotations

import select
import socket
import ssl
import time
from typing import Final

from dicom_node.upper_layer.errors import PeerGoneError, PeerTooSlowError, StoppingError
from dicom_node.upper_layer.other_protocols import WANTED_BYTES, name_protocol
from dicom_node.upper_layer.tls.errors import TlsHandshakeError

_TLS: Final = "TLS"
_ASSOCIATE_RQ: Final = 0x01  # first byte of an A-ASSOCIATE-RQ PDU
# X509_V_ERR_* of OpenSSL (x509_vfy.h) → what it means to somebody who did not make the certificates.
_CERTIFICATE_FAULTS: Final = {
    9: "is not valid yet; check the clocks of both machines",
    10: "has expired; have it renewed",
    18: "is self-signed and not in ca_file; add this certificate to ca_file to trust it",
    19: "comes from an authority that is not in ca_file; add the authority's certificate there",
    20: "comes from an authority that is not in ca_file; add the authority's certificate there",
    21: "comes from an authority that is not in ca_file; add the authority's certificate there",
    23: "has been revoked",
    26: "was not issued for this purpose (extended key usage); have it issued for TLS servers and clients",
    62: "is not for the expected host name; set tls.host_name of the peer to the name in the certificate",
    64: "is not for the expected IP address; set tls.host_name of the peer to the name in the certificate",
}
# Names of OpenSSL for alerts of the other side, and for what is not TLS.
_REASONS: Final = {
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know the authority of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the peer says that our certificate has been revoked",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the peer does not accept the kind of our certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a certificate of ours and has got none",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refuses the handshake: it wants a certificate, or other cipher suites",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer has no TLS version in common with us (1.2 and 1.3)",
    "TLSV1_ALERT_ACCESS_DENIED": "the peer denies access to our certificate",
    "UNSUPPORTED_PROTOCOL": "the peer offers no TLS version in common with us (1.2 and 1.3)",
    "NO_SHARED_CIPHER": "the peer offers no cipher suite of the profile",
    "WRONG_VERSION_NUMBER": "the peer does not use TLS",
    "HTTP_REQUEST": "the peer uses HTTP",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer shows no certificate, and dimse.tls.require_certificate wants one",
}


def accept_tls(connection: ssl.SSLSocket, *, wake: int, timeout_s: float) -> None:
    """Perform the handshake of the side that is called.

    Parameters
    ----------
    wake
        File descriptor that becomes readable if the node stops.
    timeout_s
        For the whole handshake, however many bytes arrive meanwhile.

    Raises
    ------
    PeerGoneError
        The connection ended before its first byte.
    PeerTooSlowError
        No first byte came in time.
    TlsHandshakeError
        It failed, or was not complete in time.
    StoppingError
        The node stops.
    """
    end_at = time.monotonic() + timeout_s
    if not _wait(connection, select.POLLIN, wake, end_at):
        raise PeerTooSlowError("TLS handshake", timeout_s)
    try:
        first_bytes = socket.socket.recv(connection, WANTED_BYTES, socket.MSG_PEEK)
    except OSError as error:
        raise PeerGoneError(str(error)) from error
    if not first_bytes:
        raise PeerGoneError("end of stream")
    _check_protocol(first_bytes)
    _perform(connection, wake, end_at, timeout_s)


def request_tls(
    connection: socket.socket, context: ssl.SSLContext, host_name: str, *, timeout_s: float
) -> ssl.SSLSocket:
    """Wrap a connected socket, and perform the handshake of the side that calls.

    Parameters
    ----------
    host_name
        Name or IP address that the peer's certificate must have.

    Raises
    ------
    TlsHandshakeError
        It failed, or was not complete in time.
    """
    try:
        wrapped = context.wrap_socket(connection, server_hostname=host_name, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:  # the peer has gone already; no host name
        raise TlsHandshakeError(words_of(error)) from error
    try:
        _perform(wrapped, None, time.monotonic() + timeout_s, timeout_s)
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def end_tls(connection: socket.socket) -> None:
    """Tell the peer that no more bytes follow (close_notify), and wait for nothing; a plain socket is left as it is."""
    if not isinstance(connection, ssl.SSLSocket):
        return
    try:
        connection.settimeout(0)
        connection.unwrap()
    except (OSError, ValueError):  # sent, and the peer has not answered yet; or the connection is over
        return


def words_of(error: Exception) -> str:
    """Return for people what ended a TLS connection, or a plain one."""
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = _CERTIFICATE_FAULTS.get(error.verify_code, f"is not accepted: {error.verify_message}")
        return f"the peer's certificate {fault}"
    if isinstance(error, ssl.SSLEOFError):
        return "the peer closed the connection"
    if isinstance(error, ssl.SSLError) and error.reason:
        return _REASONS.get(error.reason, error.reason.lower().replace("_", " "))
    return str(error)


def _check_protocol(first_bytes: bytes) -> None:
    protocol = name_protocol(first_bytes)
    if protocol == _TLS:
        return
    if first_bytes[0] == _ASSOCIATE_RQ:
        protocol = "DICOM without TLS"
    if protocol is not None:
        raise TlsHandshakeError(f"the peer speaks {protocol} on the port for TLS; let it use TLS, or call dimse.port")


def _perform(connection: ssl.SSLSocket, wake: int | None, end_at: float, timeout_s: float) -> None:
    while True:
        try:
            connection.settimeout(0)
            connection.do_handshake()
        except ssl.SSLWantReadError:
            wanted = select.POLLIN
        except ssl.SSLWantWriteError:
            wanted = select.POLLOUT
        except (OSError, ValueError) as error:
            raise TlsHandshakeError(words_of(error)) from error
        else:
            return
        if not _wait(connection, wanted, wake, end_at):
            raise TlsHandshakeError(f"the handshake was not complete within {timeout_s:g} s")


def _wait(connection: socket.socket, wanted: int, wake: int | None, end_at: float) -> bool:
    """Wait until the socket is ready; return False at ``end_at``."""
    poller = select.poll()
    poller.register(connection, wanted)
    if wake is not None:
        poller.register(wake, select.POLLIN)
    ready = dict(poller.poll(max(0.0, end_at - time.monotonic()) * 1000))
    if wake is not None and wake in ready:
        raise StoppingError
    return bool(ready)

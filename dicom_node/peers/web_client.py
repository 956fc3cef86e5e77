"""An HTTP client for a DICOMweb peer, and what its answers mean for trying again."""

from __future__ import annotations

import os
import ssl

import httpx

from dicom_node.peers.errors import (
    DeliveryError,
    HttpFailedForNowError,
    HttpRefusedError,
    PeerTimeoutError,
    PeerUnreachableError,
    TokenMissingError,
)
from dicom_node.settings import DicomwebPeer

CONNECT_TIMEOUT_S = 10.0
# The request is wrong and stays so. Others may pass: 401, 403 and 404 when access or URL are set right, 5xx alone.
REFUSED = frozenset({300, 301, 302, 303, 307, 308, 400, 405, 406, 409, 411, 413, 415, 422})


def open_client(peer: DicomwebPeer, *, timeout_s: float) -> httpx.Client:
    """Client with the peer's token and certificates, HTTP/1.1 only.

    Over HTTP/2 a proxy's limit of requests per connection can drop instances without a word.
    """
    headers = {}
    if peer.token_env is not None:
        token = os.environ.get(peer.token_env)
        if not token:
            raise TokenMissingError(peer.name, peer.token_env)
        headers["Authorization"] = f"Bearer {token}"
    verify: bool | ssl.SSLContext = True
    if peer.ca_file is not None:
        verify = ssl.create_default_context(cafile=str(peer.ca_file))
    timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
    return httpx.Client(headers=headers, verify=verify, timeout=timeout, http1=True, http2=False)


def url_of(peer: DicomwebPeer, path: str) -> str:
    """URL of a resource below the peer's DICOMweb root."""
    return f"{str(peer.url).rstrip('/')}/{path}"


def error_of_transport(peer: DicomwebPeer, error: httpx.TransportError, timeout_s: float) -> DeliveryError:
    """The peer gave no answer."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return PeerTimeoutError(peer.name, "HTTP answer", timeout_s)
    return PeerUnreachableError(peer.name, f"{type(error).__name__} at {peer.url}")


def error_of_status(peer: DicomwebPeer, response: httpx.Response) -> DeliveryError:
    """The peer's answer is no success."""
    kind = HttpRefusedError if response.status_code in REFUSED else HttpFailedForNowError
    return kind(peer.name, response.status_code, str(response.request.url))

"""An HTTP client for a peer or target, with limits on time and answer size, and which answers allow a retry."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

import httpx
from pydantic import HttpUrl

from dicom_node.peers.deadline import Deadline
from dicom_node.peers.errors import (
    DeliveryError,
    HttpFailedForNowError,
    HttpRefusedError,
    PeerTimeoutError,
    PeerUnreachableError,
    TlsFilesUnusableError,
    TokenMissingError,
)

CONNECT_TIMEOUT_S = 10.0
# The request itself is wrong. Other errors may end: 401, 403 and 404 once access or URL are corrected, 5xx by itself.
REFUSED = frozenset({300, 301, 302, 303, 307, 308, 400, 405, 406, 409, 411, 413, 415, 422})


class WebPeer(Protocol):
    """What the settings say about a server that is called over HTTP."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    @property
    def url(self) -> HttpUrl:
        """Root of what is called."""

    @property
    def token_env(self) -> str | None:
        """Environment variable with a bearer token."""

    @property
    def ca_file(self) -> Path | None:
        """Certificates to trust instead of the system's."""


class WebClient:
    """Requests to one peer; use it in a ``with``. Redirects are not followed.

    Parameters
    ----------
    timeout_s
        How long the peer may be silent. Each request also has a deadline for the whole of it.
    auth
        How to authenticate, if not by the peer's token.
    """

    def __init__(self, peer: WebPeer, *, timeout_s: float, auth: httpx.Auth | None = None) -> None:
        self._peer = peer
        self._timeout_s = timeout_s
        self._client = _open_client(peer, timeout_s, auth)
        self._deadline = Deadline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        deadline_s: float,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: Iterator[bytes] | bytes | None = None,
    ) -> Iterator[httpx.Response]:
        """Send a request for a resource below the peer's URL, or for the URL itself; read the body within the block.

        Parameters
        ----------
        deadline_s
            For everything up to the end of the block; bytes that arrive do not extend it.

        Raises
        ------
        DeliveryError
            There is no answer in time.
        """
        url = f"{str(self._peer.url).rstrip('/')}/{path}" if path else str(self._peer.url)
        with self._deadline.limit(deadline_s):
            try:
                request = self._client.build_request(
                    method, url, headers=headers, params=params, content=content,
                    extensions={"trace": self._deadline.trace},
                )  # fmt: skip
                response = self._client.send(request, stream=True)
                try:
                    yield response
                finally:
                    response.close()
            except httpx.RequestError as error:
                raise self._translated(error, deadline_s) from error

    def _translated(self, error: httpx.RequestError, deadline_s: float) -> DeliveryError:
        if self._deadline.is_over:
            return PeerTimeoutError(self._peer.name, "end of its HTTP answer", deadline_s)
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return PeerTimeoutError(self._peer.name, "HTTP answer", self._timeout_s)
        return PeerUnreachableError(self._peer.name, f"{type(error).__name__} at {origin_of(self._peer.url)}")


def origin_of(url: HttpUrl) -> str:
    """Return scheme, host and port of a URL, for messages; the rest of a webhook's URL may be a secret."""
    return f"{url.scheme}://{url.host}:{url.port}"


def read_body(response: httpx.Response, *, max_bytes: int) -> bytes | None:
    """Return the body of an answer, or None if it is longer than ``max_bytes``."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > max_bytes:
            return None
    return bytes(body)


def error_of_status(peer: WebPeer, response: httpx.Response) -> DeliveryError:
    """Return the error for an answer without success."""
    kind = HttpRefusedError if response.status_code in REFUSED else HttpFailedForNowError
    # Credentials in the URL of a peer are sent, and not shown.
    return kind(peer.name, response.status_code, str(response.request.url.copy_with(userinfo=b"")))


def environment_value(peer_name: str, variable: str) -> str:
    """Return a secret from the environment; raise `TokenMissingError` if it is not set."""
    value = os.environ.get(variable)
    if not value:
        raise TokenMissingError(peer_name, variable)
    return value


def _open_client(peer: WebPeer, timeout_s: float, auth: httpx.Auth | None) -> httpx.Client:
    """Return a client with the peer's token and certificates, HTTP/1.1 only.

    Over HTTP/2 a proxy's limit of requests per connection can silently drop instances.
    """
    headers = {}
    if peer.token_env is not None:
        headers["Authorization"] = f"Bearer {environment_value(peer.name, peer.token_env)}"
    verify: bool | ssl.SSLContext = True
    if peer.ca_file is not None:
        verify = _trusting(peer.name, peer.ca_file)
    timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
    return httpx.Client(headers=headers, auth=auth, verify=verify, timeout=timeout, http1=True, http2=False)


def _trusting(peer_name: str, ca_file: Path) -> ssl.SSLContext:
    """Return a context that trusts the certificates of a file; raise `TlsFilesUnusableError` if it cannot be used."""
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError as error:
        raise TlsFilesUnusableError(peer_name, f"ca_file: {ca_file}: holds no certificate in PEM") from error
    except OSError as error:
        finding = f"ca_file: {ca_file}: cannot be read ({error.strerror})"
        raise TlsFilesUnusableError(peer_name, finding) from error

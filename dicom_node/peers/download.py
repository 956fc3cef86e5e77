"""Download one file, completely or not at all, with limits on size and time; check its digest if that is known."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from dicom_node.peers.deadline import Deadline
from dicom_node.peers.errors import DownloadFailedError, DownloadRefusedError

TIMEOUT_S = 60.0  # without a byte
MIN_BYTES_PER_S = 16_384  # on average, so that a very slow server cannot take forever
MAX_REDIRECTS = 5
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def download(url: str, target: Path, *, max_bytes: int, sha256: str | None = None) -> str:
    """Download ``url`` to ``target`` and return its SHA-256.

    Parameters
    ----------
    sha256
        Expected digest, as published with the file.

    Raises
    ------
    DownloadRefusedError
        The URL is not encrypted (and not on this machine), or the file is absent, too large or not the expected one.
    DownloadFailedError
        The server did not answer, or its answer was incomplete.
    """
    part = target.with_name(target.name + ".part")
    digest = hashlib.sha256()
    deadline = Deadline()
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=True, max_redirects=MAX_REDIRECTS) as client,
            deadline.limit(TIMEOUT_S + max_bytes / MIN_BYTES_PER_S),
        ):
            client.event_hooks = {"request": [_refuse_unencrypted]}
            extensions = {"trace": deadline.trace}
            with client.stream("GET", url, extensions=extensions) as response, part.open("wb") as sink:
                if response.is_error:
                    raise _error_of_status(url, response)
                size = 0
                for block in response.iter_bytes():
                    size += len(block)
                    if size > max_bytes:
                        raise DownloadRefusedError(url, f"is larger than {max_bytes} bytes")
                    digest.update(block)
                    sink.write(block)
        found = digest.hexdigest()
        if sha256 is not None and found != sha256.lower():
            raise DownloadRefusedError(url, f"has SHA-256 {found}, expected {sha256.lower()}")
        part.replace(target)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise DownloadRefusedError(url, f"is not an address to download from ({error})") from error
    except (httpx.TransportError, httpx.TooManyRedirects) as error:
        reason = "took too long" if deadline.is_over else str(error) or type(error).__name__
        raise DownloadFailedError(url, reason) from error
    finally:
        part.unlink(missing_ok=True)
    return found


def _refuse_unencrypted(request: httpx.Request) -> None:
    """Refuse an unencrypted request: weights decide which studies may leave, so nobody may replace them in transit."""
    if request.url.scheme != "https" and request.url.host not in LOOPBACK:
        raise DownloadRefusedError(str(request.url), "is not encrypted, expected https")


def _error_of_status(url: str, response: httpx.Response) -> DownloadRefusedError | DownloadFailedError:
    answer = f"the server answered {response.status_code} {response.reason_phrase}"
    if response.is_server_error or response.status_code in (408, 429):
        return DownloadFailedError(url, answer)
    return DownloadRefusedError(url, answer)


def name_of_url(url: str) -> str:
    """Return the last part of a URL's path, or ``download`` if that is not a file name."""
    name = Path(urlsplit(url).path).name
    return "download" if name in ("", "..") else name

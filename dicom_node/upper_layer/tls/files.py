"""Which files a TLS context is made of, and whether they have changed."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.upper_layer.tls.errors import TlsFilesError

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for one side of TLS, and the settings that name them.

    Attributes
    ----------
    about
        Section of the settings, such as ``dimse.tls``, for messages.
    certificate
        Own certificate, followed by those of intermediate authorities; None: no certificate is shown.
    key
        Its private key, not encrypted.
    authorities
        Certificates that are trusted; None: those of the system.
    certificate_setting, authorities_setting
        Names of the settings in that section.
    """

    about: str
    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    certificate_setting: str = "certificate_file"
    authorities_setting: str = "ca_file"

    @property
    def stamp(self) -> _Stamp:
        """Changes whenever one of the files does; None for a file that is missing."""
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.authorities) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class ReloadingContext:
    """A TLS context that is made again when its files change; open connections keep the one they have.

    While new files cannot be used (a key without its certificate, say, because the other one is still being copied),
    the context made before is kept.

    Parameters
    ----------
    make
        Makes a context of the files.

    Raises
    ------
    TlsFilesError
        The files cannot be used now.
    """

    def __init__(self, files: TlsFiles, make: Callable[[TlsFiles], ssl.SSLContext]) -> None:
        self._files = files
        self._make = make
        self._lock = threading.Lock()
        self._stamp = files.stamp
        self._context = make(files)

    def current(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        with self._lock:
            stamp = self._files.stamp
            if stamp != self._stamp:
                self._stamp = stamp
                self._reload()
            return self._context

    def _reload(self) -> None:
        try:
            self._context = self._make(self._files)
        except TlsFilesError as error:
            log.warning("new TLS files cannot be used, the ones loaded before stay in use: %s", error)
        else:
            log.info("TLS certificates loaded again", extra={"about": self._files.about})

"""Certificates that the settings name for TLS: until when each is valid, and what to do about it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from dicom_node.dimse.tls import listening_files
from dicom_node.peers.tls import calling_files
from dicom_node.settings import Settings
from dicom_node.store import Trouble
from dicom_node.upper_layer.tls.errors import TlsFilesError
from dicom_node.upper_layer.tls.files import TlsFiles

if TYPE_CHECKING:
    from dicom_node.upper_layer.tls.certificates import CertificateFacts


def tls_files(settings: Settings) -> list[TlsFiles]:
    """Return the files for TLS that the settings name: the node's own port, its peers, and all others that it calls."""
    found = [listening_files(settings.dimse.tls)] if settings.dimse.tls.port is not None else []
    for peer in settings.peers:
        if peer.kind == "dicomweb":
            found.append(TlsFiles(f"peers.{peer.name}", authorities=peer.ca_file))
        elif peer.tls is not None:
            found.append(calling_files(peer, peer.tls))
    dask, audit = settings.work.dask_tls, settings.audit
    found += [
        *(TlsFiles(f"notify.{target.name}", authorities=target.ca_file) for target in settings.notify),
        TlsFiles("objects", authorities=settings.objects.ca_file),
        TlsFiles("oidc", authorities=settings.oidc.ca_file),
        TlsFiles("work.dask_tls", dask.certificate_file, dask.key_file, dask.ca_file),
        TlsFiles(
            "audit",
            audit.syslog_certificate,
            audit.syslog_key,
            audit.syslog_ca_file,
            certificate_setting="syslog_certificate",
            authorities_setting="syslog_ca_file",
        ),
    ]
    return [files for files in found if files.certificate is not None or files.authorities is not None]


class Certificates:
    """The certificates of a node; their files are read again when they change."""

    def __init__(self, settings: Settings) -> None:
        self._files = tls_files(settings)
        self._lock = threading.Lock()
        self._read: tuple[object, list[CertificateFacts], list[TlsFilesError]] | None = None

    def facts(self) -> list[CertificateFacts]:
        """Return facts on each certificate, once where several settings name its file."""
        return self._current()[0]

    def troubles(self, now: datetime) -> Iterator[Trouble]:
        """Yield what keeps TLS from working: files that cannot be read, certificates that are not valid now."""
        from dicom_node.upper_layer.tls.certificates import Validity

        facts, errors = self._current()
        for error in errors:
            yield Trouble(str(error.args[0]), error.code, f"{error.args[1]}: {error.args[2]}")
        for each in facts:
            validity, words = each.validity(now), each.warning(now)
            if validity in (Validity.EXPIRED, Validity.NOT_YET) and words is not None:
                yield Trouble(each.about, validity.value, words, max(each.not_after, each.not_before))

    def _current(self) -> tuple[list[CertificateFacts], list[TlsFilesError]]:
        with self._lock:
            stamp = [files.stamp for files in self._files]
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, *_read_all(self._files))
            return self._read[1], self._read[2]


def _read_all(sides: list[TlsFiles]) -> tuple[list[CertificateFacts], list[TlsFilesError]]:
    if not sides:
        return [], []
    from dicom_node.upper_layer.tls.certificates import read_certificates

    facts: dict[object, CertificateFacts] = {}
    errors: dict[object, TlsFilesError] = {}
    for files in sides:
        try:
            for each in read_certificates(files):
                facts.setdefault((each.path, each.subject, each.not_after), each)
        except TlsFilesError as error:
            errors.setdefault(error.args[1:], error)
    return list(facts.values()), list(errors.values())

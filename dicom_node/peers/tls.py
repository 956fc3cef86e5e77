"""TLS towards a peer, from its settings."""

from __future__ import annotations

import ssl

from dicom_node.peers.errors import TlsFilesUnusableError
from dicom_node.settings import DimsePeer, PeerTlsSettings
from dicom_node.upper_layer.tls.contexts import requestor_context
from dicom_node.upper_layer.tls.errors import TlsFilesError
from dicom_node.upper_layer.tls.files import TlsFiles


def calling_files(peer: DimsePeer, settings: PeerTlsSettings) -> TlsFiles:
    """Return the files that a peer's settings name."""
    return TlsFiles(f"peers.{peer.name}.tls", settings.certificate_file, settings.key_file, settings.ca_file)


def calling_context(peer: DimsePeer, settings: PeerTlsSettings) -> ssl.SSLContext:
    """Return a context for one association; the files are read each time, so that new ones count at once.

    Raises
    ------
    TlsFilesUnusableError
        A file is missing or cannot be used now.
    """
    try:
        return requestor_context(calling_files(peer, settings))
    except TlsFilesError as error:
        raise TlsFilesUnusableError(peer.name, str(error)) from error

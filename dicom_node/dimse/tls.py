"""TLS of the listening side, from the settings."""

from __future__ import annotations

from functools import partial

from dicom_node.settings import DimseTlsSettings
from dicom_node.upper_layer.tls.contexts import acceptor_context
from dicom_node.upper_layer.tls.files import ReloadingContext, TlsFiles


def listening_files(settings: DimseTlsSettings) -> TlsFiles:
    """Return the files that the settings name."""
    return TlsFiles("dimse.tls", settings.certificate_file, settings.key_file, settings.ca_file)


def listening_context(settings: DimseTlsSettings) -> ReloadingContext | None:
    """Return the context for requestors, None without TLS.

    Raises
    ------
    TlsFilesError
        A file is missing or cannot be used.
    """
    if settings.port is None:
        return None
    make = partial(acceptor_context, require_certificate=settings.require_certificate)
    return ReloadingContext(listening_files(settings), make)

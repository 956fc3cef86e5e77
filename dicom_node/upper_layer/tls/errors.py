"""Errors of the files that TLS needs, and of handshakes."""

from __future__ import annotations

from dicom_node.errors import Refused
from dicom_node.upper_layer.errors import AssociationError


class TlsFilesError(Refused):
    """A key or certificate for TLS is missing, damaged, or does not fit the others."""

    code = "tls-files"

    def __init__(self, key: str, path: str, finding: str) -> None:
        super().__init__(key, path, finding)

    def __str__(self) -> str:
        key, path, finding = self.args
        return f"{key}: {path}: {finding}"


class TlsHandshakeError(AssociationError, Refused):
    """The TLS handshake failed: a certificate was not accepted, or the other side does not use TLS."""

    code = "tls-handshake"

    def __init__(self, what: str) -> None:
        super().__init__(what)

    def __str__(self) -> str:
        return f"no TLS connection: {self.args[0]}"

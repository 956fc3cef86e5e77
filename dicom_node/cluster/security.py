"""Who may talk to a cluster: TLS with certificates on both sides, or a network that nobody else reaches.

Dask has no users and no rights. Whoever may connect to a scheduler or a worker runs any program there, and a scheduler
or worker that lies runs any program here: messages are pickles. So the certificate is the only door, in all directions.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.cluster.address import RunningScheduler
from dicom_node.cluster.errors import ClusterCertificateError, ClusterPlaintextError
from dicom_node.settings.addresses import is_loopback

if TYPE_CHECKING:
    from distributed.security import Security


@dataclass(frozen=True, slots=True)
class ClusterCredentials:
    """What this process shows to the cluster, and by what it knows the cluster.

    Attributes
    ----------
    ca_file
        PEM: the authority of the cluster's certificates; it should sign nothing else.
    certificate_file, key_file
        PEM: the certificate that this process shows, and its private key without a passphrase.
    may_be_plain
        Whether another machine may be called without TLS.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    may_be_plain: bool = False


def security_for(scheduler: RunningScheduler, credentials: ClusterCredentials, *, allow: str) -> Security | None:
    """Return what Dask needs to call the scheduler; None for an address without TLS that may be called.

    Parameters
    ----------
    allow
        What a person types to allow an address without TLS.

    Raises
    ------
    ClusterPlaintextError
        The address is one of another machine, without TLS, and nobody allowed that.
    ClusterCertificateError
        A file is missing, or cannot be used.
    """
    from distributed.security import Security

    if not scheduler.is_encrypted:
        if not is_loopback(scheduler.host) and not credentials.may_be_plain:
            raise ClusterPlaintextError(scheduler.url, allow)
        return None
    files = (credentials.ca_file, credentials.certificate_file, credentials.key_file)
    if not any(files) and Security().tls_ca_file:
        return Security(require_encryption=True)  # Dask's own configuration has them
    ca, certificate, key = (_existing(what, path) for what, path in zip(_NAMES, files, strict=True))
    _check(ca, certificate, key)
    return Security(
        require_encryption=True, tls_ca_file=str(ca), tls_client_cert=str(certificate), tls_client_key=str(key)
    )


_NAMES = ("the cluster's CA file", "the cluster's certificate file", "the cluster's key file")


def _existing(what: str, path: Path | None) -> Path:
    if path is None:
        raise ClusterCertificateError(what, "is not named")
    if not path.is_file():
        raise ClusterCertificateError(what, f"{path} is no file")
    return path


def _check(ca: Path, certificate: Path, key: Path) -> None:
    """Load the files as Dask will, which would only say that the connection failed."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise ClusterCertificateError(_NAMES[0], f"{ca} holds no certificate ({_reason(error)})") from error
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        found = f"{certificate} and {key} do not fit ({_reason(error)})"
        raise ClusterCertificateError(_NAMES[1], found) from error


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__

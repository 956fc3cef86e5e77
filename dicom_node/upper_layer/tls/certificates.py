"""What a certificate file says: whose it is, and until when it is valid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509

from dicom_node.upper_layer.tls.errors import TlsFilesError
from dicom_node.upper_layer.tls.files import TlsFiles

EXPIRES_SOON: Final = timedelta(days=30)
MAX_TRUSTED: Final = 16


class Validity(StrEnum):
    """Whether a certificate is valid at some moment."""

    VALID = "valid"
    EXPIRES_SOON = "certificate-expires"  # code of the warning
    EXPIRED = "certificate-expired"
    NOT_YET = "certificate-not-valid-yet"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What matters of one certificate to who looks after a node."""

    about: str  # the setting that names the file, such as ``dimse.tls.certificate_file``
    path: Path
    subject: str  # RFC 4514
    not_before: datetime
    not_after: datetime
    is_self_signed: bool

    @property
    def _afterwards(self) -> str:
        """What is to be done when it was renewed; Dask reads its files once."""
        return "then restart `work`" if self.about.startswith("work.dask_tls.") else "no restart is needed"

    def validity(self, now: datetime) -> Validity:
        """Whether it is valid at ``now``, and for how long."""
        if now > self.not_after:
            return Validity.EXPIRED
        if now < self.not_before:
            return Validity.NOT_YET
        return Validity.EXPIRES_SOON if self.not_after - now < EXPIRES_SOON else Validity.VALID

    def warning(self, now: datetime) -> str | None:
        """Return a sentence for people if there is something to do."""
        validity, what = self.validity(now), f"{self.about}: the certificate {self.subject} in {self.path}"
        if validity is Validity.EXPIRED:
            return f"{what} expired on {self.not_after:%Y-%m-%d %H:%M} UTC; renew it, {self._afterwards}"
        if validity is Validity.NOT_YET:
            return f"{what} is valid only from {self.not_before:%Y-%m-%d %H:%M} UTC; check the clock"
        if validity is Validity.EXPIRES_SOON:
            days = (self.not_after - now).days
            return f"{what} expires in {days} days, on {self.not_after:%Y-%m-%d}; renew it, {self._afterwards}"
        return None


def read_certificates(files: TlsFiles) -> list[CertificateFacts]:
    """Return facts on our own certificate (without the intermediate ones after it), and on all that are trusted.

    A file with more than `MAX_TRUSTED` certificates is a bundle like that of the system, in which some are always old.

    Raises
    ------
    TlsFilesError
        A file is missing or holds no certificate.
    """
    own = _read(f"{files.about}.{files.certificate_setting}", files.certificate)[:1]
    trusted = _read(f"{files.about}.{files.authorities_setting}", files.authorities)
    return own if len(trusted) > MAX_TRUSTED else [*own, *trusted]


def _read(about: str, path: Path | None) -> list[CertificateFacts]:
    if path is None:
        return []
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except FileNotFoundError:
        raise TlsFilesError(about, str(path), "no such file") from None
    except OSError as error:
        raise TlsFilesError(about, str(path), f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise TlsFilesError(about, str(path), "holds no certificate in PEM") from error
    return [
        CertificateFacts(
            about,
            path,
            each.subject.rfc4514_string(),
            each.not_valid_before_utc,
            each.not_valid_after_utc,
            each.subject == each.issuer,
        )
        for each in certificates
    ]

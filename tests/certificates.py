"""Certificates for tests of TLS, made on the spot: an authority, what it signs, and what nobody should trust."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LONG_AGO, LONG_AFTER = timedelta(days=400), timedelta(days=400)


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder; what it issues is valid for ``localhost`` and 127.0.0.1 unless told."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(self._name, self._key, self._name, self._key, is_authority=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        host_names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        starts_in: timedelta = -timedelta(days=1),
        ends_in: timedelta = LONG_AFTER,
    ) -> Pair:
        """A certificate and its key as ``NAME.pem`` and ``NAME.key``."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(
            _named(name), key, self._name, self._key, host_names=host_names, starts_in=starts_in, ends_in=ends_in
        )
        return _write(self.folder, name, certificate, key)

    def expired(self, name: str = "expired") -> Pair:
        """A certificate whose time ended yesterday."""
        return self.issue(name, starts_in=-LONG_AGO, ends_in=-timedelta(days=1))


def self_signed(folder: Path, name: str = "self-signed") -> Pair:
    """A certificate that only its own key has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(_named(name), key, _named(name), key, host_names=("localhost", "127.0.0.1"))
    return _write(folder, name, certificate, key)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool = False,
    host_names: tuple[str, ...] = (),
    starts_in: timedelta = -timedelta(days=1),
    ends_in: timedelta = LONG_AFTER,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts_in)
        .not_valid_after(now + ends_in)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if host_names:
        names = x509.SubjectAlternativeName([_general(name) for name in host_names])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair

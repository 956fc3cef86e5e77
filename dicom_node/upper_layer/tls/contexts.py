"""TLS contexts by the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12).

TLS 1.2 and 1.3, 1.3 first; nothing older is negotiated, so nobody can make the two sides fall back to it. In TLS 1.2
only the cipher suites that RFC 9325 4.2 recommends: ephemeral keys and authenticated encryption.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final, NoReturn

from dicom_node.upper_layer.tls.errors import TlsFilesError
from dicom_node.upper_layer.tls.files import TlsFiles

PROFILE: Final = "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile"
REGISTERED_PORT: Final = 2762  # dicom-tls (IANA)
# OpenSSL's name → the standard's (RFC 5289).
TLS_1_2_SUITES: Final = {
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
}
# RFC 8446 B.4; these are what OpenSSL negotiates unless its own configuration says otherwise.
TLS_1_3_SUITES: Final = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
_ENCRYPTED = "the key is encrypted; store it without a passphrase, readable by the node's user only: openssl pkey -in"
_REASONS: Final = {
    "KEY_VALUES_MISMATCH": "is not the key of the certificate in certificate_file; take the pair that belongs together",
    "EE_KEY_TOO_SMALL": "the key is too short; RSA needs 2048 bits or more",
    "CA_MD_TOO_WEAK": "is signed with a hash that is no longer secure; have it issued again with SHA-256",
}


def acceptor_context(files: TlsFiles, *, require_certificate: bool) -> ssl.SSLContext:
    """Return a context for the side that is called.

    Parameters
    ----------
    require_certificate
        Whether a requestor must show a certificate of ``files.authorities``. If not, one that is shown is checked
        all the same, as long as there are authorities.

    Raises
    ------
    TlsFilesError
        A file is missing or cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    # A resumed session would skip the certificates, which may have changed since; associations are long enough.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _load_own(context, files)
    if require_certificate or files.authorities is not None:
        _load_authorities(context, files)
        context.verify_mode = ssl.CERT_REQUIRED if require_certificate else ssl.CERT_OPTIONAL
    return context


def requestor_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context for the side that calls: it checks the peer's certificate, and for which host it is.

    Raises
    ------
    TlsFilesError
        A file is missing or cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    _load_own(context, files)
    _load_authorities(context, files)
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Level 2: RSA keys of 2048 bits or more, hashes of 224 bits or more, whatever the system allows.
    context.set_ciphers(":".join(("@SECLEVEL=2", *TLS_1_2_SUITES)))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # A certificate in the file of authorities is trusted as it is, also that of a peer that no authority signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    certificate, key = files.certificate, files.key
    if certificate is None or key is None:
        return
    key_name = f"{files.about}.key_file"
    _check_readable(f"{files.about}.certificate_file", certificate)
    _check_readable(key_name, key)

    def refuse_encrypted() -> NoReturn:
        raise TlsFilesError(key_name, str(key), f"{_ENCRYPTED} {key.name}")

    try:
        context.load_cert_chain(certificate, key, password=refuse_encrypted)
    except ssl.SSLError as error:
        at_fault = _holds_no_certificate(certificate)
        if at_fault:
            raise TlsFilesError(f"{files.about}.certificate_file", str(certificate), at_fault) from error
        finding = _REASONS.get(error.reason, f"holds no private key in PEM ({error.reason or 'damaged'})")
        raise TlsFilesError(key_name, str(key), finding) from error


def _load_authorities(context: ssl.SSLContext, files: TlsFiles) -> None:
    if files.authorities is None:
        context.load_default_certs()
        return
    name = f"{files.about}.ca_file"
    _check_readable(name, files.authorities)
    try:
        context.load_verify_locations(files.authorities)
    except ssl.SSLError as error:
        raise TlsFilesError(name, str(files.authorities), "holds no certificate in PEM") from error


def _holds_no_certificate(path: Path) -> str | None:
    """Return what is wrong with a file that should begin with a certificate, or None."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return "holds no certificate in PEM"
    return None


def _check_readable(name: str, path: Path) -> None:
    try:
        with path.open("rb"):
            return
    except FileNotFoundError:
        raise TlsFilesError(name, str(path), "no such file") from None
    except OSError as error:
        words = f"cannot be read ({error.strerror}); the node's user must be able to read it"
        raise TlsFilesError(name, str(path), words) from None

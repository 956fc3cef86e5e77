"""What TLS knows of the other side of a connection."""

from __future__ import annotations

import ssl


def describe_tls(connection: ssl.SSLSocket) -> dict[str, object]:
    """Return fields for the log: version, cipher suite, and the subject of the certificate that the peer has shown."""
    fields: dict[str, object] = {"tls": connection.version()}
    cipher = connection.cipher()
    if cipher is not None:
        fields["cipher"] = cipher[0]
    subject = peer_common_name(connection)
    if subject is not None:
        fields["certificate"] = subject
    return fields


def peer_common_name(connection: ssl.SSLSocket) -> str | None:
    """Return the common name in the peer's certificate, None if there is no certificate or it has no such name."""
    certificate = connection.getpeercert() or {}
    for names in certificate.get("subject", ()):
        for name in names:
            if len(name) == 2 and name[0] == "commonName":
                return str(name[1])
    return None

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


def certificate_names(connection: object) -> frozenset[str]:
    """Return the names in the certificate that the peer has shown, in lower case: of hosts, addresses, the common name.

    Empty for a plain socket, and for a peer without a certificate.
    """
    if not isinstance(connection, ssl.SSLSocket):
        return frozenset()
    certificate = connection.getpeercert() or {}
    names = {str(entry[1]).lower() for entry in certificate.get("subjectAltName", ()) if len(entry) == 2}
    common_name = peer_common_name(connection)
    return frozenset(names if common_name is None else names | {common_name.lower()})

"""Recognise peers that use another protocol than the DICOM upper layer, by their first bytes."""

from __future__ import annotations

import re

# RFC 8446 5.1: record type handshake or alert, then the legacy version 3.x. RFC 9112 3: a method and a space.
# RFC 9113 3.4: HTTP/2 begins with "PRI ". RFC 4253 4.2. haproxy.org, PROXY protocol, 2.1 and 2.2.
_FIRST_BYTES = (
    (re.compile(rb"[\x15\x16]\x03[\x00-\x04]"), "TLS"),
    (re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|CONNECT|TRACE|PATCH|PRI) |HTTP/"), "HTTP"),
    (re.compile(rb"PROXY |\r\n\r\n\x00\r\nQ"), "the PROXY protocol of a load balancer"),
    (re.compile(rb"SSH-"), "SSH"),
)
WANTED_BYTES = 8  # length of the longest pattern


def name_protocol(first_bytes: bytes) -> str | None:
    """Return the name of the protocol that begins with these bytes, or None if it is not a common one."""
    return next((name for pattern, name in _FIRST_BYTES if pattern.match(first_bytes)), None)

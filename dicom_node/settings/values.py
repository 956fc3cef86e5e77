"""Kinds of values that settings hold: AE titles, ports, times, networks, origins."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field

AE_TITLE_MAX_LENGTH = 16  # PS3.5 table 6.2-1, VR AE


GIB = 2**30


def _checked_ae_title(value: str) -> str:
    """Return a valid AE title (PS3.5): 1 to 16 printable ASCII characters, no backslash, not only spaces."""
    title = value.strip(" ")
    if not title or len(title) > AE_TITLE_MAX_LENGTH:
        raise ValueError(f"an AE title has 1 to {AE_TITLE_MAX_LENGTH} characters, {len(title)} found")
    if any(not " " <= letter <= "~" or letter == "\\" for letter in title):
        raise ValueError("an AE title has printable ASCII characters only, and no backslash")
    return title


AeTitle = Annotated[str, AfterValidator(_checked_ae_title)]


Port = Annotated[int, Field(ge=0, le=65535)]  # 0 lets the system choose one, which is logged


Seconds = Annotated[float, Field(gt=0)]


def _checked_network(value: str) -> str:
    """Return an IP address or network as it is usually written."""
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(
            f"{error}; an address such as 192.0.2.10 or a network such as 10.1.0.0/16 is expected"
        ) from None
    return str(network)


Network = Annotated[str, AfterValidator(_checked_network)]


def _checked_origin(value: str) -> str:
    """Return an origin (RFC 6454): scheme and host, perhaps a port; or ``*``."""
    if value != "*" and not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", value):
        raise ValueError("an origin is http(s)://host or http(s)://host:port without a path, or * for any")
    return value.lower()


Origin = Annotated[str, AfterValidator(_checked_origin)]


HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$")]

"""From where requests of browsers come, and by which name they call this node.

A page of another site can have its own name resolve to the node's address (DNS rebinding); a browser then takes the
node for that site and lets its scripts read what the node answers. So the name that was called must be known. And it
can make a browser send a form, or a request with a cookie; browsers say from which site that came.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from dicom_node.access.errors import ForeignRequestError

RELOAD: Final = "reload the page and try again"


class Origins:
    """The node's names: localhost, the machine's name, the host of ``public_url``, more names, and every address.

    Parameters
    ----------
    public_url
        What clients call.
    more
        Other names of the node.
    """

    def __init__(self, public_url: str | None = None, more: Iterable[str] = ()) -> None:
        self._public = urlsplit(public_url or "")
        public = self._public.hostname or "localhost"
        self._names = {"localhost", socket.gethostname().lower(), public.lower(), *(name.lower() for name in more)}

    def check_name(self, request: Request) -> None:
        """Raise `ForeignRequestError` if this node is called by a name that it does not know."""
        host = request.headers.get("host", "")
        if not self._know(host):
            raise ForeignRequestError(
                f"this node does not know the name {host[:80]!r} by which it was called",
                "call it by its address, or set web.public_url to the URL that people use or web.host_names",
            )

    def check(self, request: Request) -> None:
        """Raise `ForeignRequestError` if a browser says that another site sent a request, or calls a foreign name."""
        self.check_name(request)
        host = request.headers.get("host", "")
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is not None and site not in ("same-origin", "none"):
            raise ForeignRequestError("a page of another site sent this request", RELOAD)
        if origin is not None and _netloc(origin) not in (host, self._public.netloc or host):
            raise ForeignRequestError(f"the page {origin[:80]!r} sent this request", RELOAD)

    def _know(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _netloc(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None

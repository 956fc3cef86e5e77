"""Make HTML of templates: what others wrote is escaped, and no script stands in a page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from dicom_node import __version__
from dicom_node.access.callers import caller_of
from dicom_node.page.assets import asset_path
from dicom_node.page.protection import TOKEN_FIELD, Protection

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; font-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Renderer:
    """Templates with what all pages share.

    Parameters
    ----------
    ae_title
        Names the node in titles.
    public_url
        Links begin with its path.
    viewer_url
        Address of a viewer, ``{study}`` where the Study Instance UID goes; None if there is none.
    may_upload
        Whether pages lead to the page of uploads.
    """

    def __init__(
        self,
        protection: Protection,
        *,
        ae_title: str,
        public_url: str | None,
        viewer_url: str | None = None,
        may_upload: bool = False,
    ) -> None:
        self.base = urlsplit(public_url or "").path.rstrip("/")
        self.public_url = public_url
        self._protection = protection
        self._environment = Environment(
            loader=PackageLoader("dicom_node.page"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            base=self.base,
            asset=lambda name: self.base + asset_path(name),
            ae_title=ae_title,
            version=__version__,
            may_upload=may_upload,
            token_field=TOKEN_FIELD,
            viewer=lambda uid: None if viewer_url is None else viewer_url.replace("{study}", quote(uid)),
        )
        self._environment.filters.update(words=words, moment=moment, day=day, person=person, size=size)

    def html(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:  # noqa: ANN401
        """Return a page; ``values`` are what its template names."""
        browser = self._protection.browser_of(request)
        text = self._environment.get_template(template).render(
            token=self._protection.token_for(browser), path=request.url.path, caller=caller_of(request), **values
        )
        response = HTMLResponse(text, status_code=status, headers=_HEADERS)
        self._protection.remember(request, response, browser)
        return response


def words(code: str) -> str:
    """Return a word of the program as people write it."""
    return code.replace("_", " ")


def moment(at: datetime | None) -> str:
    """Return date and time to the second, UTC."""
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def day(date: str) -> str:
    """Return a DICOM date as 2026-03-04, anything else as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def person(name: str) -> str:
    """Return a DICOM person's name as people write it: family name, given names (PS3.5 6.2.1)."""
    parts = [part.strip() for part in name.split("^")]
    return ", ".join(filter(None, [parts[0], " ".join(filter(None, parts[1:3]))]))


def size(n_bytes: float) -> str:
    """Return a size with a unit of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


Render = Callable[..., HTMLResponse]

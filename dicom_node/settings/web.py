"""Settings of the web server."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, HttpUrl, model_validator

from dicom_node.settings.addresses import is_loopback
from dicom_node.settings.section import Section
from dicom_node.settings.values import GIB, HostName, Network, Origin, Port, Seconds

Access = Literal["this-machine", "tokens", "oidc", "everyone-in-reach"]


class WebSettings(Section):
    """DICOMweb, the page, health and metrics over HTTP."""

    host: str = Field(
        default="127.0.0.1", description="address to listen on; any but this machine's own needs `web.access`"
    )
    access: Access = Field(
        default="this-machine",
        description="who may use it: `this-machine` (everybody on it, without signing in), `tokens` (who has one, see "
        "`tokens create`), `oidc` (whom a provider knows, see `oidc.issuer`, and who has a token), or "
        "`everyone-in-reach` (whoever reaches the port, without signing in)",
    )
    session_hours: Annotated[float, Field(gt=0, le=720)] = Field(
        default=12.0, description="hours until who signed in to the page has to do it again"
    )
    host_names: tuple[HostName, ...] = Field(
        default=(),
        description="more names by which clients call the node, such as `node.example.org`; its addresses, this "
        "machine's name and the host of public_url are known, all others are refused",
    )
    port: Port = Field(default=8080, description="TCP port; 0 lets the system choose one, which is logged")
    public_url: HttpUrl | None = Field(
        default=None, description="URL that clients use if there is a proxy; without /dicom-web"
    )
    page: bool = Field(default=True, description="the page for people at / and what it can do under /api")
    viewer_url: str | None = Field(
        default=None,
        pattern=r"^(https?://|/)[^\s\"'<>]*$",
        description="address of a viewer that the page links to, `{study}` where the Study Instance UID goes",
    )
    proxies: tuple[Network, ...] = Field(
        default=(),
        description="addresses or networks of proxies, such as `[127.0.0.1]`: what they say in X-Forwarded-For and "
        "X-Forwarded-Proto is believed, of nobody else; a proxy must set X-Forwarded-For, not pass on a client's",
    )
    max_requests_per_minute: int = Field(
        default=12_000,
        ge=60,
        description="requests of one person or program that has signed in, in a minute; more are answered with 429",
    )
    max_connections: int = Field(
        default=256, ge=8, le=16384, description="simultaneous connections; a new one replaces the longest idle one"
    )
    header_timeout_s: Seconds = Field(default=20.0, description="time for a complete request header")
    keep_alive_s: int = Field(default=30, ge=1, description="an idle connection is kept for this time")
    send_timeout_s: Seconds = Field(
        default=60.0, description="a client that does not read its buffered data (256 kB) in this time is disconnected"
    )
    decoding_bytes: int = Field(
        default=GIB // 2,
        ge=2**20,
        description="memory for decoding pixels for clients, all requests together; a frame may have a sixth of it, "
        "and a request that finds too little is answered with 503",
    )
    stow: bool = Field(
        default=False, description="take instances by STOW-RS, from who may (roles sender, reviewer and above)"
    )
    upload: bool = Field(
        default=False,
        description="take files that people upload by the page, and programs by /api/upload",
    )
    cors_origins: tuple[Origin, ...] = Field(
        default=(),
        description="sites whose pages may use DICOMweb, such as `https://viewer.example.org`; `*` is any",
    )
    browser_cache: bool = Field(
        default=False,
        description="let browsers keep images and metadata on their disks, and ask each time whether they still hold",
    )
    administrators: tuple[str, ...] = Field(
        default=(),
        description="who may delete results over DICOMweb where nobody signs in, by the names in user_header; empty: "
        "nobody",
    )
    user_header: str = Field(
        default="X-Remote-User",
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="header in which the proxy says who a client is; it must take the header off what clients send",
    )
    metadata_ahead: bool = Field(
        default=True,
        description="compute metadata of instances soon after they arrived, when nothing else arrives, and not only at "
        "the first request; a small file for each",
    )
    max_request_bytes: int = Field(
        default=64 * GIB,
        ge=2**20,
        description="refuse the rest of a STOW-RS request or upload that is longer, with 413; "
        "an uploaded zip archive is not unpacked to more either",
    )
    max_store_requests: int = Field(
        default=8,
        ge=1,
        le=64,
        description="simultaneous STOW-RS requests, and as many uploads; more are answered with 503",
    )
    receive_timeout_s: Seconds = Field(
        default=60.0,
        description="time for each 256 kB of a STOW-RS request or upload, after which it is ended with 408",
    )

    @model_validator(mode="after")
    def _others_have_to_sign_in(self) -> Self:
        if self.access == "this-machine" and not is_loopback(self.host):
            raise ValueError(
                f"host: others than this machine reach {self.host!r}, and they need not say who they are; set "
                "web.access to tokens (make the first one with `dicom-node tokens create NAME --role admin`) or oidc, "
                "keep web.host at 127.0.0.1, or set web.access to everyone-in-reach if everybody who reaches the port "
                "may see patients and release studies"
            )
        return self

"""Settings of signing in by OpenID Connect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, HttpUrl

from dicom_node.settings.addresses import is_loopback
from dicom_node.settings.section import Section

RoleName = Literal["monitor", "sender", "viewer", "reviewer", "exporter", "admin"]


def _protected(url: HttpUrl) -> HttpUrl:
    """Return the URL of an issuer, which is called over TLS unless it is on this machine."""
    if url.scheme != "https" and not is_loopback((url.host or "").strip("[]")):
        raise ValueError("an issuer is called over https, unless it is on this machine")
    return url


class OidcSettings(Section):
    """Signing in by OpenID Connect, with `web.access: oidc`."""

    issuer: Annotated[HttpUrl, AfterValidator(_protected)] | None = Field(
        default=None, description="the provider, such as `https://login.example.org/realms/hospital`"
    )
    client_id: str = Field(
        default="dicom-node", min_length=1, description="name under which the provider knows this node"
    )
    client_secret_env: str | None = Field(
        default=None, description="environment variable with the client's secret; without one it is a public client"
    )
    scope: str = Field(
        default="openid profile", pattern=r"^openid( .*)?$", description="what the provider is asked for"
    )
    name_claim: str = Field(
        default="preferred_username", min_length=1, description="claim with the name for the audit trail; else `sub`"
    )
    roles_claim: str = Field(
        default="roles",
        min_length=1,
        description="claim with roles or groups; dots lead into claims, as in `realm_access.roles`",
    )
    roles: dict[str, RoleName] = Field(
        default={},
        description="values of that claim → roles of this node; if empty, the values that are names of roles count",
    )
    audience: str | None = Field(
        default=None, min_length=1, description="audience of tokens that programs send; client_id when empty"
    )
    ca_file: Path | None = Field(default=None, description="certificates to trust instead of the system's")

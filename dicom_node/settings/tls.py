"""Settings of TLS for DIMSE, of the node as the called side and of each peer that it calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from dicom_node.settings.section import Section


class DimseTlsSettings(Section):
    """A second port, on which associations are encrypted."""

    port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None, description="TCP port for TLS, 2762 is the registered one; no TLS when empty"
    )
    certificate_file: Path | None = Field(
        default=None, description="PEM: the node's certificate, then those of intermediate authorities"
    )
    key_file: Path | None = Field(default=None, description="PEM: its private key, without a passphrase")
    ca_file: Path | None = Field(
        default=None, description="PEM: authorities, or single certificates, that requestors are trusted by"
    )
    require_certificate: bool = Field(
        default=True, description="accept only requestors that show a certificate that ca_file trusts"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.certificate_file is None) is not (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together; set both")
        if self.port is None:
            return self
        if self.certificate_file is None:
            raise ValueError("port is set, so certificate_file and key_file are needed")
        if self.require_certificate and self.ca_file is None:
            raise ValueError(
                "ca_file is needed to check the certificates of requestors; "
                "name it, or let everyone in who speaks TLS with require_certificate: false"
            )
        return self


class PeerTlsSettings(Section):
    """Calling a peer with TLS; its certificate and host name are always checked."""

    ca_file: Path | None = Field(
        default=None,
        description="PEM: authorities, or the peer's own certificate, that the peer is trusted by; "
        "dimse.tls.ca_file when empty, and without that the system's",
    )
    host_name: str | None = Field(
        default=None, min_length=1, description="name that the peer's certificate must have; host when empty"
    )
    certificate_file: Path | None = Field(
        default=None,
        description="PEM: certificate that the node shows to this peer; dimse.tls.certificate_file when empty",
    )
    key_file: Path | None = Field(default=None, description="PEM: its private key; dimse.tls.key_file when empty")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.certificate_file is None) is not (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together; set both")
        return self


class DaskTlsSettings(Section):
    """Calling a Dask cluster with TLS; it checks the node's certificate, and the node checks the cluster's."""

    ca_file: Path | None = Field(
        default=None, description="PEM: the authority of the cluster's certificates; it should sign nothing else"
    )
    certificate_file: Path | None = Field(
        default=None, description="PEM: certificate that the node shows to the cluster"
    )
    key_file: Path | None = Field(default=None, description="PEM: its private key, without a passphrase")

"""Settings of a peer: where it is, what it gets, what it may do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, model_validator

from dicom_node.settings.section import Name, Section
from dicom_node.settings.tls import PeerTlsSettings
from dicom_node.settings.values import AeTitle, Network

ResultKind = Literal["seg", "sr", "kos"]


_RESULTS = "kinds of results that it gets: seg and sr of each series, kos of each study that may leave"


class DimsePeer(Section):
    """A peer that receives results by C-STORE."""

    kind: Literal["dimse"] = Field(default="dimse", description="results are sent by C-STORE")
    name: Name = Field(description="name of the peer in deliver_to and in the rules")
    ae_title: AeTitle = Field(description="the peer's own AE title")
    host: str = Field(description="host name or IP address")
    port: int = Field(ge=1, le=65535, description="TCP port")
    tls: PeerTlsSettings | None = Field(
        default=None, description="call the peer with TLS; `tls: {}` is enough where dimse.tls has the files"
    )
    verify_counts: bool = Field(
        default=False, description="ask the peer after each delivery how many instances of the series it has"
    )
    forward_sources: bool = Field(
        default=False,
        description="send every complete series that was received to this peer, unless a rule says otherwise",
    )
    commitment: bool = Field(
        default=False,
        description="ask the peer for storage commitment of all that it accepted; retention waits for it",
    )
    addresses: tuple[Network, ...] = Field(
        default=(),
        description="addresses or networks from which the peer calls, such as `[192.0.2.10, 10.1.0.0/16]`; with its AE "
        "title from elsewhere nobody may associate; empty: from anywhere",
    )
    certificate_names: tuple[str, ...] = Field(
        default=(),
        description="names that identify the peer's certificate: host names, addresses or common names. An association "
        "with the peer's AE title is accepted only over TLS, with a certificate that has at least one of these names; "
        "if empty, no certificate is needed",
    )
    may_store: bool = Field(default=True, description="the peer may store here by C-STORE")
    may_report: bool = Field(default=True, description="the peer may report on storage commitment")
    may_query: bool = Field(default=True, description="the peer may search here by C-FIND")
    may_retrieve: bool = Field(
        default=True,
        description="the peer may get what is stored here: by C-GET, and by C-MOVE to itself or to another such peer",
    )
    results: tuple[ResultKind, ...] = Field(default=("seg", "sr"), description=_RESULTS)

    @model_validator(mode="before")
    @classmethod
    def _tls_is_meant(cls, values: object) -> object:
        if isinstance(values, dict) and "tls" in values and values["tls"] is None:
            raise ValueError("tls is there and empty; write tls: {} to use TLS, or leave tls out to call without it")
        return values


class DicomwebPeer(Section):
    """A peer that receives results by STOW-RS."""

    kind: Literal["dicomweb"] = Field(default="dicomweb", description="results are sent by STOW-RS")
    name: Name = Field(description="name of the peer in deliver_to and in the rules")
    url: HttpUrl = Field(description="the DICOMweb root, without /studies")
    token_env: str | None = Field(default=None, description="environment variable that holds a bearer token")
    ca_file: Path | None = Field(default=None, description="certificates to trust instead of the system's")
    verify_counts: bool = Field(
        default=False, description="ask the peer after each delivery how many instances of the series it has"
    )
    forward_sources: bool = Field(
        default=False,
        description="send every complete series that was received to this peer, unless a rule says otherwise",
    )
    results: tuple[ResultKind, ...] = Field(default=("seg", "sr"), description=_RESULTS)


Peer = Annotated[DimsePeer | DicomwebPeer, Field(discriminator="kind")]

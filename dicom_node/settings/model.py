"""Types of the settings: every key with its unit, bounds and default."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, HttpUrl, model_validator

from dicom_node.settings.addresses import is_loopback
from dicom_node.settings.audit import AuditSettings
from dicom_node.settings.objects import ObjectsSettings
from dicom_node.settings.oidc import OidcSettings
from dicom_node.settings.query_retrieve import QueryRetrieveSettings
from dicom_node.settings.section import Name, Section
from dicom_node.settings.targets import Target
from dicom_node.settings.tls import DaskTlsSettings, DimseTlsSettings, PeerTlsSettings

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


Access = Literal["this-machine", "tokens", "oidc", "everyone-in-reach"]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$")]


class NodeSettings(Section):
    """Name of the node, and where it keeps its data."""

    ae_title: AeTitle = Field(default="DICOMNODE", description="AE title of the node")
    data_dir: Path = Field(default=Path("data"), description="objects, spool and index; one local file system")
    database_url: str | None = Field(
        default=None,
        description="URL of the index, `postgresql://user:password@host/database`; SQLite in data_dir when empty",
    )
    objects_url: str | None = Field(
        default=None, description="bucket of the objects, `s3://bucket/prefix`; a folder in data_dir when empty"
    )


class DimseSettings(Section):
    """Listening for C-ECHO and C-STORE."""

    host: str = Field(default="0.0.0.0", description="address to listen on")  # noqa: S104 - a PACS must reach it
    port: Port = Field(default=11112, description="TCP port; 0 lets the system choose one, which is logged")
    plain: bool = Field(default=True, description="listen on port, without encryption; false leaves tls.port only")
    tls: DimseTlsSettings = DimseTlsSettings()
    max_associations: int = Field(default=32, ge=1, le=1024, description="simultaneous associations; more are rejected")
    max_associations_per_host: int | None = Field(
        default=None, ge=1, le=1024, description="simultaneous associations from one address; no such limit when empty"
    )
    allowed_calling_ae_titles: tuple[AeTitle, ...] = Field(default=(), description="empty: every calling AE title")
    known_peers_only: bool = Field(
        default=False, description="only peers of kind dimse in `peers` may associate, by their AE titles"
    )
    require_called_ae_title: bool = Field(default=True, description="refuse associations that call another AE title")
    min_free_bytes: int = Field(
        default=2 * GIB, ge=0, description="refuse C-STORE with 0xA700 when less disk space is free"
    )
    max_object_bytes: int = Field(
        default=4 * GIB, ge=2**20, description="refuse an instance with 0xC001 when its dataset is larger"
    )
    accept_unknown_uids: bool = Field(
        default=True,
        description="accept SOP classes and transfer syntaxes that are private or newer than this program; "
        "the bytes are kept and not decoded",
    )
    max_pdu_bytes: int = Field(default=131072, ge=16384, le=4 * 2**20, description="largest PDU that the node accepts")
    idle_timeout_s: Seconds = Field(default=60.0, description="a silent association is aborted after this time")

    @model_validator(mode="after")
    def _ports_fit(self) -> Self:
        if not self.plain and self.tls.port is None:
            raise ValueError("plain is false and tls.port is empty, so nothing would listen; set tls.port")
        if self.plain and self.port and self.port == self.tls.port:
            raise ValueError(f"port and tls.port are both {self.port}; set one of them to another port")
        return self


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


class SeriesSettings(Section):
    """When a series counts as complete."""

    quiet_s: Seconds = Field(default=30.0, description="seconds without a new instance")
    max_wait_s: Seconds = Field(
        default=300.0, description="longest wait after the last instance if there is evidence of more to come"
    )
    ask_peers: tuple[str, ...] = Field(
        default=(), description="names of the peers that are asked how many instances a series has"
    )


class WorkSettings(Section):
    """Running the models."""

    engine: Literal["local", "dask"] = Field(
        default="local", description="where the models run: in the process `work`, or on the workers of a Dask cluster"
    )
    dask_address: str | None = Field(
        default=None,
        pattern=r"^(tls|tcp)://[^\s/]+:\d{1,5}$",
        description="scheduler of the cluster: tls://HOST:PORT, or tcp://127.0.0.1:PORT on this machine",
    )
    dask_jobs: int = Field(
        default=1, ge=1, le=1000, description="series that are computed at the same time: the number of its workers"
    )
    dask_tls: DaskTlsSettings = DaskTlsSettings()
    dask_plain: bool = Field(
        default=False,
        description="allow tcp:// to another machine: whoever reaches the scheduler runs any program on its workers",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto uses a GPU if there is one")
    threads: int | None = Field(default=None, ge=1, description="CPU threads for the models; all cores when empty")
    lease_s: Seconds = Field(default=120.0, description="a job whose worker is silent for this long runs again")
    max_attempts: int = Field(default=5, ge=1, description="attempts before a job is dead")
    backoff_s: Seconds = Field(default=30.0, description="wait before the second attempt; then doubles")

    @model_validator(mode="after")
    def _has_cluster(self) -> Self:
        if self.engine == "dask" and self.dask_address is None:
            raise ValueError("engine is dask, so dask_address is needed")
        return self


class DeliverySettings(Section):
    """Sending results to peers."""

    max_attempts: int = Field(default=20, ge=1, description="attempts before a delivery is dead")
    backoff_s: Seconds = Field(default=10.0, description="wait before the second attempt; then doubles")
    max_backoff_s: Seconds = Field(default=3600.0, description="longest wait between two attempts")
    timeout_s: Seconds = Field(default=60.0, description="a peer that is silent for this long counts as unreachable")


class CommitmentSettings(Section):
    """Asking peers to commit to what they accepted; for peers with `commitment: true`."""

    ask_again_s: Seconds = Field(
        default=14400.0, description="a peer that has not reported after this time is asked again; hours are normal"
    )
    max_requests: int = Field(default=10, ge=1, description="requests for an object until a person has to decide")
    max_instances: int = Field(default=500, ge=1, le=10000, description="instances in one request")
    wait_s: float = Field(
        default=5.0, ge=0, le=300, description="how long the association stays open for a report on it"
    )
    keep_requests_days: float = Field(
        default=90.0,
        ge=1,
        description="days until the record of a request is deleted; one whose report may still come is kept",
    )


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
        description="host names, addresses or common names, one of which must be in the certificate with which the "
        "peer calls; its AE title without TLS, or with another certificate, is rejected; empty: any or none",
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


class ModelSettings(Section):
    """Folders of the two models; the reference models that ship with the node when empty."""

    foreground: Path | None = Field(default=None, description="model folder; the reference model when empty")
    anonymized: Path | None = Field(default=None, description="model folder; the reference model when empty")


class RetentionSettings(Section):
    """What is deleted, and when; nothing by default."""

    sources_days: float | None = Field(
        default=None, gt=0, description="days until received instances of finished, delivered series are deleted"
    )
    max_source_bytes: int | None = Field(
        default=None,
        ge=1,
        description="while received instances take more, those of the oldest such series are deleted",
    )
    wait_for_export: bool = Field(
        default=False, description="keep the instances of a study until it is exported, unless it is blocked"
    )
    emergency_free_bytes: int | None = Field(
        default=None,
        ge=1,
        description="while less disk space is free, those of the oldest such series are deleted whatever their age; "
        "more than dimse.min_free_bytes",
    )


class LogSettings(Section):
    """Level and format of the log; it never contains patient names or IDs."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least severity to log")
    format: Literal["text", "json"] = Field(default="text", description="json is for log collectors")


class Settings(Section):
    """All settings of a node."""

    node: NodeSettings = NodeSettings()
    objects: ObjectsSettings = ObjectsSettings()
    dimse: DimseSettings = DimseSettings()
    query_retrieve: QueryRetrieveSettings = QueryRetrieveSettings()
    web: WebSettings = WebSettings()
    oidc: OidcSettings = OidcSettings()
    audit: AuditSettings = AuditSettings()
    series: SeriesSettings = SeriesSettings()
    work: WorkSettings = WorkSettings()
    delivery: DeliverySettings = DeliverySettings()
    commitment: CommitmentSettings = CommitmentSettings()
    peers: tuple[Peer, ...] = Field(default=(), description="nodes that can receive results; see below")
    deliver_to: tuple[str, ...] = Field(default=(), description="names of the peers that get every result")
    notify: tuple[Target, ...] = Field(
        default=(), description="targets that are told the state of every study; see below"
    )
    models: ModelSettings = ModelSettings()
    rules: Path | None = Field(default=None, description="routing rules; those that ship with the node when empty")
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if self.web.access == "oidc" and self.oidc.issuer is None:
            raise ValueError("oidc.issuer: is empty, and web.access is oidc; name the provider")
        if self.work.engine == "dask" and self.node.objects_url is not None:
            raise ValueError(
                "work.engine: is dask, and node.objects_url is set; the workers of a cluster read objects in "
                "node.data_dir, on a file system that they share with the node"
            )
        names = [peer.name for peer in self.peers]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"peers: the name {repeated[0]!r} is used twice; names of peers are unique")
        targets = [target.name for target in self.notify]
        repeated = sorted({name for name in targets if targets.count(name) > 1})
        if repeated:
            raise ValueError(f"notify: the name {repeated[0]!r} is used twice; names of targets are unique")
        emergency, refused = self.retention.emergency_free_bytes, self.dimse.min_free_bytes
        if emergency is not None and emergency <= refused:
            raise ValueError(
                f"retention.emergency_free_bytes: {emergency} is not more than dimse.min_free_bytes ({refused}), "
                "below which nothing is received; set it higher"
            )
        for key, wanted in (("deliver_to", self.deliver_to), ("series.ask_peers", self.series.ask_peers)):
            for name in wanted:
                if name not in names:
                    known = ", ".join(sorted(names)) or "none is configured"
                    raise ValueError(f"{key}: no peer is named {name!r}; known peers: {known}")
        return self

"""Types of the settings: every key with its unit, bounds and default."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dicom_node.settings.audit import AuditSettings
from dicom_node.settings.objects import ObjectsSettings
from dicom_node.settings.oidc import OidcSettings
from dicom_node.settings.peers import Peer
from dicom_node.settings.query_retrieve import QueryRetrieveSettings
from dicom_node.settings.section import Section
from dicom_node.settings.targets import Target
from dicom_node.settings.tls import DaskTlsSettings, DimseTlsSettings
from dicom_node.settings.values import GIB, AeTitle, Port, Seconds
from dicom_node.settings.web import WebSettings


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
    objects_are_lost: bool = Field(
        default=False,
        description="start although the objects that the index names are not there; for a disk that was lost for good, "
        "until instances were sent again",
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

"""The settings as types: every key, its unit, its bounds and its default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, model_validator

AE_TITLE_MAX_LENGTH = 16  # PS3.5 table 6.2-1, VR AE
GIB = 2**30


def _checked_ae_title(value: str) -> str:
    """An AE title as PS3.5 has it: 1 to 16 printable ASCII characters, no backslash, not only spaces."""
    title = value.strip(" ")
    if not title or len(title) > AE_TITLE_MAX_LENGTH:
        raise ValueError(f"an AE title has 1 to {AE_TITLE_MAX_LENGTH} characters, {len(title)} found")
    if any(not " " <= letter <= "~" or letter == "\\" for letter in title):
        raise ValueError("an AE title has printable ASCII characters only, and no backslash")
    return title


AeTitle = Annotated[str, AfterValidator(_checked_ae_title)]
Port = Annotated[int, Field(ge=0, le=65535)]  # 0 lets the system choose one, which is logged
Seconds = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class _Section(BaseModel):
    """A part of the settings: unknown keys are errors, values never change at run time."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeSettings(_Section):
    """Who the node is and where it keeps what it must not lose."""

    ae_title: AeTitle = "DICOMNODE"
    data_dir: Path = Field(default=Path("data"), description="objects, spool and index; one local file system")
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the index; SQLite below data_dir when empty"
    )


class DimseSettings(_Section):
    """Listening for C-ECHO and C-STORE."""

    host: str = "0.0.0.0"  # noqa: S104 - a PACS must reach it; who may send is decided by AE title
    port: Port = 11112
    max_associations: int = Field(default=32, ge=1, le=1024)
    allowed_calling_ae_titles: tuple[AeTitle, ...] = Field(default=(), description="empty: every calling AE title")
    require_called_ae_title: bool = Field(default=True, description="refuse associations that call another AE title")
    min_free_bytes: int = Field(
        default=2 * GIB, ge=0, description="refuse C-STORE with 0xA700 when less disk space is free"
    )
    max_pdu_bytes: int = Field(default=131072, ge=16384, le=4 * 2**20)
    idle_timeout_s: Seconds = 60.0


class WebSettings(_Section):
    """Serving DICOMweb and health over HTTP."""

    host: str = "127.0.0.1"
    port: Port = 8080


class SeriesSettings(_Section):
    """When a series counts as complete."""

    quiet_s: Seconds = Field(default=30.0, description="seconds without a new instance")


class WorkSettings(_Section):
    """Running the models."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1, description="CPU threads for the models; all cores when empty")
    lease_s: Seconds = Field(default=120.0, description="a job whose worker is silent for so long is run again")
    max_attempts: int = Field(default=5, ge=1)
    backoff_s: Seconds = Field(default=30.0, description="wait before the second attempt; doubles every time")


class DeliverySettings(_Section):
    """Sending results to peers."""

    max_attempts: int = Field(default=20, ge=1)
    backoff_s: Seconds = 10.0
    max_backoff_s: Seconds = 3600.0
    timeout_s: Seconds = 60.0


class DimsePeer(_Section):
    """A peer that takes results by C-STORE."""

    kind: Literal["dimse"] = "dimse"
    name: Name
    ae_title: AeTitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]


class DicomwebPeer(_Section):
    """A peer that takes results by STOW-RS."""

    kind: Literal["dicomweb"] = "dicomweb"
    name: Name
    url: HttpUrl = Field(description="the DICOMweb root, without /studies")
    token_env: str | None = Field(default=None, description="environment variable that holds a bearer token")
    ca_file: Path | None = Field(default=None, description="certificates to trust instead of the system's")


Peer = Annotated[DimsePeer | DicomwebPeer, Field(discriminator="kind")]


class ModelSettings(_Section):
    """Folders of the two models; the reference models that ship with the node where empty."""

    foreground: Path | None = None
    anonymized: Path | None = None


class RetentionSettings(_Section):
    """What is deleted, and when; nothing by default."""

    sources_days: float | None = Field(
        default=None, gt=0, description="days after which the received instances of finished, delivered series go"
    )


class LogSettings(_Section):
    """What the log says; it never holds patient names or IDs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Settings(_Section):
    """All settings of a node."""

    node: NodeSettings = NodeSettings()
    dimse: DimseSettings = DimseSettings()
    web: WebSettings = WebSettings()
    series: SeriesSettings = SeriesSettings()
    work: WorkSettings = WorkSettings()
    delivery: DeliverySettings = DeliverySettings()
    peers: tuple[Peer, ...] = ()
    deliver_to: tuple[str, ...] = Field(default=(), description="names of the peers that get every result")
    models: ModelSettings = ModelSettings()
    rules: Path | None = Field(default=None, description="routing rules; the ones that ship with the node where empty")
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [peer.name for peer in self.peers]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"peers: the name {repeated[0]!r} is used twice; names of peers are unique")
        for name in self.deliver_to:
            if name not in names:
                known = ", ".join(sorted(names)) or "none is configured"
                raise ValueError(f"deliver_to: no peer is named {name!r}; known peers: {known}")
        return self

    def peer(self, name: str) -> DimsePeer | DicomwebPeer | None:
        """Peer of a name, ``None`` when no such peer is configured (any more)."""
        return next((peer for peer in self.peers if peer.name == name), None)

"""``/metrics`` for Prometheus: what waits, what failed, how much room is left. No identifying value is in it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

import dicom_node
from dicom_node.errors import NodeError
from dicom_node.stage_times import N_TIMED, StageTime, stage_times
from dicom_node.store import Figures, PartState, Store, part_troubles
from inference.errors import InferenceError

if TYPE_CHECKING:
    from dicom_node.upper_layer.tls.certificates import CertificateFacts

KEPT_S: Final = 5.0  # several scrapers, or one that asks too often, cost no more than one


ReadModels = Callable[[], Sequence[Mapping[str, str]]]
"""Returns role, name, version and digest of each model; raises if they cannot be described."""


class MetricsService:
    """``/metrics``, in the text format of Prometheus or OpenMetrics, as the client asks."""

    def __init__(
        self,
        store: Store,
        certificates: Callable[[], Sequence[CertificateFacts]] = tuple,
        read_models: ReadModels = tuple,
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_NodeCollector(store, certificates, read_models))

    def metrics(self, request: Request) -> Response:
        """Answer with all metrics."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": content_type})


class _NodeCollector(Collector):
    """Reads the store at most every `KEPT_S` seconds."""

    def __init__(
        self, store: Store, certificates: Callable[[], Sequence[CertificateFacts]], read_models: ReadModels
    ) -> None:
        self._store = store
        self._read_models = read_models
        self._certificates = certificates
        self._lock = threading.Lock()
        self._kept: tuple[float, Figures, tuple[StageTime, ...]] | None = None

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of this moment."""
        now = self._store.now()
        parts = Store.parts(self._store.data_dir)
        figures, stages = self._figures()
        disk = os.statvfs(self._store.data_dir)
        yield InfoMetricFamily("dicom_node", "Version of the node", {"version": dicom_node.__version__})
        yield _by_label("dicom_node_studies", "Studies by state according to the rules", "state", figures.studies)
        yield _by_label("dicom_node_series", "Series by state", "state", figures.series)
        yield _by_label("dicom_node_series_verdicts", "Series by verdict", "verdict", figures.verdicts)
        yield _by_label("dicom_node_jobs", "Jobs by state", "state", figures.jobs)
        yield _by_two_labels("dicom_node_deliveries", "Deliveries by peer and state", "peer", figures.deliveries)
        yield _by_two_labels("dicom_node_notices", "Notices of study states by target", "target", figures.notices)
        yield _gauge("dicom_node_conflicts", "Conflicting contents that nobody has settled", figures.n_conflicts)
        yield _gauge("dicom_node_instances", "Instances in the index", figures.n_instances)
        yield _gauge("dicom_node_dataset_bytes", "Bytes of all datasets in the index", figures.n_dataset_bytes)
        for name, what, since in (
            ("job", "job", figures.oldest_job_at),
            ("delivery", "delivery", figures.oldest_delivery_at),
        ):
            text = f"Age of the oldest {what} that is not finished; 0 if there is none"
            age_s = 0.0 if since is None else max(0.0, (now - since).total_seconds())
            yield _gauge(f"dicom_node_oldest_{name}_age_seconds", text, age_s)
        yield _gauge("dicom_node_open_associations", "Open DIMSE associations", self._store.associations.count())
        yield _gauge("dicom_node_disk_free_bytes", "Free space in node.data_dir", disk.f_bavail * disk.f_frsize)
        yield _gauge("dicom_node_disk_total_bytes", "Size of its file system", disk.f_blocks * disk.f_frsize)
        yield from _stages(stages)
        yield self._models()
        yield from _parts(parts)
        yield _expiry(self._certificates())

    def _figures(self) -> tuple[Figures, tuple[StageTime, ...]]:
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > KEPT_S:
                stages = stage_times(self._store.studies.newest_reports(limit=N_TIMED))
                self._kept = time.monotonic(), self._store.figures(), stages
            return self._kept[1:]

    def _models(self) -> Metric:
        """Return the identity of each model; nothing where they cannot be described, which troubles of parts tell."""
        names = ("role", "name", "version", "sha256")
        family = GaugeMetricFamily("dicom_node_model", "Model of the settings, by what identifies it", labels=names)
        try:
            models = self._read_models()
        except (NodeError, InferenceError, OSError):
            models = ()
        for model in models:
            family.add_metric([str(model[name]) for name in names], 1.0)
        return family


def _stages(stages: tuple[StageTime, ...]) -> Iterator[Metric]:
    text = f"Seconds that a stage took, over the newest {N_TIMED} volumes"
    median = GaugeMetricFamily("dicom_node_stage_median_seconds", f"{text}: median", labels=["stage"])
    longest = GaugeMetricFamily("dicom_node_stage_longest_seconds", f"{text}: longest", labels=["stage"])
    for one in stages:
        median.add_metric([one.stage], one.median_s)
        longest.add_metric([one.stage], one.longest_s)
    yield from (median, longest)


def _parts(parts: tuple[PartState, ...]) -> Iterator[Metric]:
    ready = GaugeMetricFamily("dicom_node_part_ready", "Whether a part of the node works", labels=["part"])
    pipeline = GaugeMetricFamily(
        "dicom_node_worker_pipeline", "Pipeline (models and rules) that a worker has loaded", labels=["pipeline_digest"]
    )
    troubles = GaugeMetricFamily("dicom_node_trouble", "Something keeps a part from working", labels=["about", "code"])
    names = sorted({part.name for part in parts})
    for name in names:
        ready.add_metric([name], float(any(part.name == name and part.is_running and part.is_ready for part in parts)))
    for digest in sorted({part.pipeline_digest for part in parts if part.is_running and part.pipeline_digest}):
        pipeline.add_metric([digest], 1.0)
    for about, code in sorted({(trouble.about, trouble.code) for trouble in part_troubles(parts, names)}):
        troubles.add_metric([about, code], 1.0)
    yield from (ready, pipeline, troubles)


def _expiry(certificates: Sequence[CertificateFacts]) -> Metric:
    text = "When a certificate for TLS ends to be valid, in seconds since 1970"
    family = GaugeMetricFamily("dicom_node_certificate_expiry_timestamp_seconds", text, labels=["setting", "subject"])
    for each in certificates:
        family.add_metric([each.about, each.subject], each.not_after.timestamp())
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _by_label(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in sorted(counts.items()):
        family.add_metric([value], float(number))
    return family


def _by_two_labels(name: str, text: str, label: str, counts: Mapping[str, Mapping[str, int]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label, "state"])
    for who, by_state in sorted(counts.items()):
        for state, number in sorted(by_state.items()):
            family.add_metric([who, state], float(number))
    return family

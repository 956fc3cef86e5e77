"""``/metrics``, read by Prometheus' own parser from a real server over a real store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from starlette.requests import Request

from dicom_node.dicomweb.metrics import MetricsService
from dicom_node.store import Closing, JobState, NewVerdict, Outcome, Route, Store
from tests.arrivals import receive
from tests.dicomweb.serving import serve
from tests.factories import ct_series
from tests.new_store import NewStore


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as store:
        yield store


def samples(text: str, *, parse=read_text) -> dict[tuple[str, ...], float]:
    """Values by name and label values."""
    return {(s.name, *s.labels.values()): s.value for family in parse(text) for s in family.samples}


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{url}/metrics", headers=headers, trust_env=False)


def test_counts_of_the_store_are_what_prometheus_reads(store: Store) -> None:
    series = ct_series(3, seed="metrics")
    receive(store, series)
    with serve(store) as url:
        answer = get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = samples(answer.text)
    assert found["dicom_node_studies", "open"] == 1
    assert found["dicom_node_series", "receiving"] == 1
    assert found["dicom_node_instances",] == 3
    assert found["dicom_node_dataset_bytes",] == store.series.get(series.series_instance_uid).n_dataset_bytes
    assert found["dicom_node_oldest_job_age_seconds",] == 0
    assert found["dicom_node_conflicts",] == 0
    assert 0 < found["dicom_node_disk_free_bytes",] <= found["dicom_node_disk_total_bytes",]
    assert series.series_instance_uid not in answer.text
    assert str(series.datasets()[0].PatientID) not in answer.text


def test_an_unfinished_job_shows_its_age_and_a_parts_trouble_its_code(store: Store) -> None:
    series = ct_series(2, seed="metrics-job")
    receive(store, series)
    now = datetime.now(UTC)
    queued_at = now - timedelta(hours=2)
    closing = Closing("quiet", False, "d" * 64, Route("all", ("largest",), ()))
    store.closing.complete(store.series.get(series.series_instance_uid), closing, queued_at)
    part = Store.announce(store.data_dir, "work", now)
    part.ready(pipeline_digest="d" * 64)
    with serve(store) as url:
        found = samples(get(url).text)
    part.end()
    assert found["dicom_node_jobs", JobState.QUEUED.value] == 1
    assert found["dicom_node_oldest_job_age_seconds",] == pytest.approx(7200, abs=120)
    assert found["dicom_node_part_ready", "work"] == 1
    assert found["dicom_node_worker_pipeline", "d" * 64] == 1


def test_models_and_the_time_that_stages_take_are_told(store: Store) -> None:
    for seed, seconds in (("a", 1.0), ("b", 2.0), ("c", 9.0)):
        series = ct_series(1, seed=seed)
        receive(store, series)
        now = datetime.now(UTC)
        closing = Closing("quiet", False, "d" * 64, Route("all", ("largest",), ()))
        store.closing.complete(store.series.get(series.series_instance_uid), closing, now)
        job = store.jobs.claim("w", now, 60, pipeline_digest="d" * 64)
        assert job is not None
        report = {"timings_s": {"segment foreground": seconds}}
        verdict = NewVerdict(1, "defaced", 0.9, (), frozenset(), report)
        store.jobs.succeed(job.id, "w", Outcome((), (verdict,)), now)
    model = {"role": "foreground", "name": "reference", "version": "1", "sha256": "ab" * 32}
    service = MetricsService(store, read_models=lambda: (model,))
    found = samples(bytes(service.metrics(Request({"type": "http", "headers": []})).body).decode())
    assert found["dicom_node_stage_median_seconds", "segment foreground"] == 2.0
    assert found["dicom_node_stage_longest_seconds", "segment foreground"] == 9.0
    assert found["dicom_node_model", "reference", "foreground", "ab" * 32, "1"] == 1  # labels by their names


def test_models_that_cannot_be_described_keep_the_other_metrics(store: Store) -> None:
    def broken() -> tuple[dict[str, str], ...]:
        raise FileNotFoundError("plans.json")

    service = MetricsService(store, read_models=broken)
    text = bytes(service.metrics(Request({"type": "http", "headers": []})).body).decode()
    assert "dicom_node_model{" not in text
    assert samples(text)["dicom_node_instances",] == 0


def test_openmetrics_is_sent_to_whoever_asks_for_it(store: Store) -> None:
    with serve(store) as url:
        answer = get(url, accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert samples(answer.text, parse=read_openmetrics)["dicom_node_open_associations",] == 0


def test_the_example_alerts_and_dashboard_ask_for_metrics_that_exist(store: Store) -> None:
    receive(store, ct_series(1, seed="metrics-names"))
    with serve(store) as url:
        known = {line.split()[2] for line in get(url).text.splitlines() if line.startswith("# TYPE ")}
    folder = Path(__file__).parents[2] / "config/monitoring"
    rules = yaml.safe_load((folder / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((folder / "dashboard.json").read_text())["panels"]
    asked = [rule["expr"] for rule in rules] + [target["expr"] for panel in panels for target in panel["targets"]]
    named = {name for expression in asked for name in re.findall(r"dicom_node_\w+", expression)}
    assert named <= known
    assert len(named) > 8


def test_the_example_alerts_have_the_form_of_prometheus() -> None:
    path = Path(__file__).parents[2] / "config/monitoring/alerts.yaml"
    document = yaml.safe_load(path.read_text())
    assert set(document) == {"groups"}
    for group in document["groups"]:
        assert set(group) == {"name", "rules"}
        assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])
        for rule in group["rules"]:
            assert {"alert", "expr", "annotations"} <= set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
            assert set(rule["annotations"]) == {"summary", "todo"}

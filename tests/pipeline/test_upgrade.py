"""A node that was written by an earlier version goes on with what it has."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node import processing
from dicom_node.pipeline.intake import start_over_jobs
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.pipeline.rules import load_rules
from dicom_node.pipeline.worker import Worker, WorkerSettings
from dicom_node.store import JobState, SeriesState, Store
from tests.arrivals import NOON, complete_quiet
from tests.factories import SyntheticSeries, ct_series
from tests.threshold import threshold

REVISION_0003 = Path(__file__).parents[1] / "store" / "revision_0003"
RULES = load_rules(None, peer_names=())
THEN, NOW = "d" * 64, "e" * 64  # pipelines
LATER = NOON + timedelta(days=1)


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[Store]:
    """A node of schema revision 0003, opened by the code of now."""
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as database:
        database.executescript((REVISION_0003 / "index.sql").read_text())
    for path in REVISION_0003.glob("*.dcm"):
        folder = tmp_path / "objects" / path.name[:2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    with Store.open(tmp_path) as store:
        yield store


def sent(name: str) -> SyntheticSeries:
    return ct_series(n_slices=1, seed=f"upgrade-{name}")


def test_nothing_is_lost_and_no_reference_leads_nowhere(upgraded: Store) -> None:
    jobs = {job.series_instance_uid: job for job in upgraded.jobs.list()}
    states = {name: jobs[sent(name).series_instance_uid].state for name in ("queued", "done", "dead", "waiting")}
    assert states == {
        "queued": JobState.QUEUED,
        "done": JobState.SUCCEEDED,
        "dead": JobState.DEAD,
        "waiting": JobState.WAITING,
    }
    done = jobs[sent("done").series_instance_uid]
    assert (done.pipeline_digest, done.route, done.queued_at) == (THEN, None, NOON + timedelta(seconds=60))
    assert [event.event for event in upgraded.jobs.events(done.id)] == ["queued", "claimed", "succeeded"]
    (result,) = upgraded.jobs.results(done.id)
    assert [(each.peer, each.state, each.result_id) for each in upgraded.deliveries.list()] == [
        ("archive", JobState.QUEUED, result.id),
        ("pacs", JobState.SUCCEEDED, result.id),
    ]
    (verdict,) = upgraded.studies.verdicts(sent("done").study_instance_uid)
    assert (verdict.verdict, verdict.report["foreground_ml"]) == ("defaced", 4000.5)
    codes = {
        row.series_instance_uid: row.remark_codes for row in upgraded.studies.evidence(done.study_instance_uid).series
    }
    assert codes[done.series_instance_uid] == {"repeats-not-run", "tilted"}
    skipped = upgraded.series.get(sent("skipped").series_instance_uid)
    assert (skipped.state, str(skipped.skip_reason).split(":")[0]) == (SeriesState.SKIPPED, "rule-localiser")
    with upgraded._database.read() as connection:
        assert connection.execute(sa.text("PRAGMA foreign_key_check")).all() == []
    assert [each.peer for each in upgraded.deliveries.claim_due("s", LATER, 60)] == ["archive"]


@pytest.mark.parametrize("digest", [THEN, NOW], ids=["same-pipeline", "other-pipeline"])
def test_what_was_queued_then_is_routed_and_done_now(
    upgraded: Store, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "segment", threshold)
    worker = Worker(
        upgraded,
        partial(processing.process_series, models=None),
        WorkerSettings(
            owner="w",
            study_rules=RULES.study,
            pipeline_digest=digest,
            retry=RetryPolicy(max_attempts=1, backoff_s=10.0),
            lease_s=30.0,
        ),
        clock=lambda: LATER,
    )
    assert not worker.work_once(threading.Event())  # no job has a route yet
    assert start_over_jobs(upgraded, pipeline_digest=digest, now=LATER) == 2
    assert complete_quiet(upgraded, RULES, pipeline_digest=digest, quiet_s=30, now=LATER) == 3
    while worker.work_once(threading.Event()):
        pass
    job = upgraded.jobs.list(series_instance_uid=sent("queued").series_instance_uid)[0]
    assert (job.state, job.generation, job.pipeline_digest) == (JobState.SUCCEEDED, 2, digest)
    assert job.route is not None
    assert (job.route.rule_name, job.route.deliver_to) == ("everything-else", ("pacs",))
    assert [result.kind for result in upgraded.jobs.results(job.id)] == ["seg", "sr"]
    assert [delivery.peer for delivery in upgraded.deliveries.list(job_id=job.id)] == ["pacs", "pacs"]

"""Another program holds the database: timers and worker live through it, and say so once."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

import dicom_node.pipeline.worker
import dicom_node.store.sqlite
from dicom_node import processing
from dicom_node.pipeline.clock import Clock
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.pipeline.rules import load_rules
from dicom_node.pipeline.schedule import Schedule
from dicom_node.pipeline.worker import Worker, WorkerSettings
from dicom_node.settings import NodeSettings, SeriesSettings, Settings
from dicom_node.store import JobState, Store
from tests.arrivals import complete_quiet, receive
from tests.factories import ct_series
from tests.new_store import NewStore
from tests.node_process import wait_for
from tests.threshold import threshold

RULES = load_rules(None, peer_names=())
DIGEST = "d" * 64


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def impatient_store(new_store: NewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that waits a tenth of a second for another writer."""
    monkeypatch.setattr(dicom_node.store.sqlite, "BUSY_TIMEOUT_S", 0.1)
    with new_store(tmp_path / "data") as store:
        yield store


def test_it_is_said_once_and_everything_goes_on_afterwards(
    impatient_store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = impatient_store
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(processing, "segment", threshold)
    monkeypatch.setattr(dicom_node.pipeline.worker, "TROUBLE_WAIT_S", 0.05)
    queued, quiet = (ct_series(n_slices=4, rows=12, columns=10, seed=name) for name in ("queued", "quiet"))
    receive(store, queued, at=now())
    assert complete_quiet(store, RULES, pipeline_digest=DIGEST, quiet_s=0.0, now=now(), deliver_to=()) == 1
    receive(store, quiet, at=now())

    settings = Settings(node=NodeSettings(data_dir=store.data_dir), series=SeriesSettings(quiet_s=0.2))
    schedule = Schedule(store, settings, RULES, lambda: DIGEST, "s", clock=now)
    worker = Worker(
        store,
        partial(processing.process_series, models=None),
        WorkerSettings(
            owner="w",
            study_rules=RULES.study,
            pipeline_digest=DIGEST,
            retry=RetryPolicy(max_attempts=3, backoff_s=0.1),
            lease_s=30.0,
        ),
        clock=now,
    )
    expected = {("tick failed; it comes again", "quiet-series"), ("store failed; the worker tries again", None)}
    stopping = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stopping,))
    with closing(sqlite3.connect(store.data_dir / "index.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Clock(schedule.ticks(must_stop=stopping.is_set)):
            thread.start()
            wait_for("failures in the log", lambda: expected <= lines(caplog).keys())
            time.sleep(1.0)  # several more attempts of each
            during = lines(caplog)
            other.execute("ROLLBACK")
            wait_for(
                "both jobs",
                lambda: store.jobs.counts() == {JobState.SUCCEEDED: 2},
                timeout_s=120.0,
            )
            wait_for("the end of it in the log", lambda: lines(caplog)["tick works again", "quiet-series"])
            stopping.set()
    thread.join(60.0)
    assert set(during.values()) == {1}
    assert lines(caplog)["store works again", None] == 1
    assert not any(record.exc_info for record in caplog.records)


def lines(caplog: pytest.LogCaptureFixture) -> Counter[tuple[str, str | None]]:
    """What was logged about the store, and about which tick."""
    said = ("tick failed", "tick works", "store failed", "store works", "heartbeat")
    return Counter(
        (record.getMessage(), getattr(record, "tick", None))
        for record in caplog.records
        if record.getMessage().startswith(said)
    )

"""The system's clock is set while a node runs or is down: nothing is closed too early, nothing waits for hours."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import apscheduler.schedulers.base
import pytest

import dicom_node.pipeline.clock
from dicom_node.pipeline.clock import Clock, Tick
from dicom_node.pipeline.clock_steps import ClockSteps
from dicom_node.pipeline.rules import load_rules
from dicom_node.pipeline.schedule import Schedule
from dicom_node.settings import NodeSettings, SeriesSettings, Settings, WorkSettings
from dicom_node.store import JobState, SeriesState, Store
from tests.arrivals import NOON, receive
from tests.factories import SyntheticSeries, ct_series

QUIET_S, LEASE_S = 30.0, 120.0


class TwoClocks:
    """A wall clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.wall = NOON
        self.seconds = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds

    def set_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)


@pytest.fixture
def clocks() -> TwoClocks:
    return TwoClocks()


@pytest.fixture
def series() -> SyntheticSeries:
    return ct_series(n_slices=6, rows=8, columns=8)


class Node:
    """The ticks of a scheduler, run one by one."""

    def __init__(self, store: Store, clocks: TwoClocks, tmp_path: Path) -> None:
        settings = Settings(
            node=NodeSettings(data_dir=tmp_path),
            series=SeriesSettings(quiet_s=QUIET_S),
            work=WorkSettings(lease_s=LEASE_S),
        )
        rules = load_rules(None, peer_names=())
        schedule = Schedule(
            store,
            settings,
            rules,
            lambda: "d" * 64,
            "s",
            clock=lambda: clocks.wall,
            monotonic=lambda: clocks.seconds,
        )
        self.ticks = {tick.name: tick.look for tick in schedule.ticks(must_stop=lambda: False)}

    def look(self, name: str) -> None:
        self.ticks[name]()


@pytest.fixture
def node(store: Store, clocks: TwoClocks, tmp_path: Path) -> Node:
    return Node(store, clocks, tmp_path)


def test_a_step_is_told_from_time_that_passes(clocks: TwoClocks) -> None:
    steps = ClockSteps(lambda: clocks.wall, lambda: clocks.seconds)
    clocks.pass_by(3600)
    assert steps.pending_s() == 0.0
    clocks.set_by(-7200)
    clocks.pass_by(5)
    assert steps.pending_s() == -7200.0
    assert steps.pending_s() == -7200.0  # until it was handled
    steps.handled()
    assert steps.pending_s() == 0.0
    clocks.set_by(0.4)  # as NTP does
    assert steps.pending_s() == 0.0


@pytest.mark.parametrize(("step_s", "words"), [(7200.0, "forward"), (-7200.0, "back")])
def test_a_series_that_is_being_sent_while_the_clock_is_set_is_closed_when_it_is_quiet_and_says_so(
    store: Store, clocks: TwoClocks, node: Node, series: SyntheticSeries, step_s: float, words: str
) -> None:
    def row() -> object:
        return store.series.get(series.series_instance_uid)

    receive(store, series[:4], at=clocks.wall)
    node.look("quiet-series")
    clocks.set_by(step_s)
    clocks.pass_by(5)
    node.look("quiet-series")
    assert row().state is SeriesState.RECEIVING
    reason = f"the clock was set {words} by 7200 s; its last instance counts as arrived then"
    assert row().waits_because == reason
    clocks.pass_by(5)
    receive(store, series[4:], at=clocks.wall)  # the rest of it
    clocks.pass_by(QUIET_S - 1)
    node.look("quiet-series")
    assert row().state is SeriesState.RECEIVING
    clocks.pass_by(1)
    node.look("quiet-series")
    assert (row().state, row().n_instances) == (SeriesState.COMPLETE, 6)
    assert row().complete_because == f"no instance for 30 s (quiet period 30 s); {reason}"


def test_a_clock_that_was_set_back_while_the_node_was_down_delays_nothing(
    store: Store, clocks: TwoClocks, tmp_path: Path, series: SyntheticSeries
) -> None:
    receive(store, series, at=clocks.wall + timedelta(hours=20))
    node = Node(store, clocks, tmp_path)
    node.look("quiet-series")
    row = store.series.get(series.series_instance_uid)
    assert row.last_arrival_at == clocks.wall
    reason = "the clock was set back; its last instance, in the future, counts as arrived at 12:00:00 UTC"
    assert row.waits_because == reason
    clocks.pass_by(QUIET_S)
    node.look("quiet-series")
    assert store.series.get(series.series_instance_uid).state is SeriesState.COMPLETE


def test_a_store_that_fails_just_then_forgets_no_step(
    store: Store, clocks: TwoClocks, node: Node, series: SyntheticSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(store, series, at=clocks.wall)
    clocks.set_by(7200)
    with monkeypatch.context() as broken:

        def fail(*_: object) -> int:
            raise OSError("disk")

        broken.setattr(store.series, "count_as_arrived", fail)
        with pytest.raises(OSError, match="disk"):
            node.look("quiet-series")
    node.look("quiet-series")
    assert store.series.get(series.series_instance_uid).state is SeriesState.RECEIVING


def test_leases_and_waits_last_no_longer_for_a_step_back_and_run_out_for_none_forward(
    store: Store, clocks: TwoClocks, node: Node, series: SyntheticSeries
) -> None:
    receive(store, series, at=clocks.wall)
    clocks.pass_by(QUIET_S)
    node.look("quiet-series")
    job = store.jobs.claim("w", clocks.wall, LEASE_S, pipeline_digest="d" * 64)
    assert job is not None
    clocks.set_by(7200)
    node.look("leases")
    assert store.jobs.get(job.id).state is JobState.RUNNING
    assert store.jobs.get(job.id).lease_expires_at == clocks.wall + timedelta(seconds=LEASE_S)
    clocks.set_by(-36000)
    node.look("leases")
    assert store.jobs.get(job.id).lease_expires_at == clocks.wall + timedelta(seconds=LEASE_S)
    clocks.pass_by(LEASE_S + 1)  # its worker is gone
    node.look("leases")
    assert store.jobs.get(job.id).state is JobState.QUEUED

    again = store.jobs.claim("w", clocks.wall, LEASE_S, pipeline_digest="d" * 64)
    assert again is not None
    retry_at = clocks.wall + timedelta(seconds=60)
    store.jobs.fail(again.id, "w", code="x", message="x", detail=None, retry_at=retry_at, now=clocks.wall)
    node.look("leases")
    assert store.jobs.get(job.id).retry_at == retry_at
    clocks.set_by(-36000)
    node.look("leases")
    assert store.jobs.get(job.id).retry_at == clocks.wall


def test_ticks_go_on_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """APScheduler waits for the wall clock to reach the time of the next run."""
    offset = timedelta()

    class SetClock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + offset  # type: ignore[arg-type]

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", SetClock)
    monkeypatch.setattr(dicom_node.pipeline.clock, "datetime", SetClock)
    monkeypatch.setattr(dicom_node.pipeline.clock, "WATCH_S", 0.1)
    ran = threading.Semaphore(0)
    with Clock([Tick("often", ran.release, 0.05)]):
        assert all(ran.acquire(timeout=60.0) for _ in range(3))
        offset = timedelta(hours=-3)
        time.sleep(0.2)
        while ran.acquire(blocking=False):
            pass
        assert all(ran.acquire(timeout=60.0) for _ in range(3))

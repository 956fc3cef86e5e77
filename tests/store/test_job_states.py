"""Any sequence of what workers, the clock, senders and administrators do keeps the jobs' rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dicom_node.store import IllegalTransitionError, JobState, LeaseLostError, Outcome, SeriesState, Store
from dicom_node.store.states import TRANSITIONS
from tests.new_store import StoreMaker
from tests.store.sending import SERIES, T0, closing, instance, keep

OWNERS = st.sampled_from(["w1", "w2"])
LEASE_S = 60.0


class JobLife(RuleBasedStateMachine):
    """One series with its jobs; the model is what the events say happened."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        super().__init__()
        self.open_store = open_store

    @initialize()
    def begin(self) -> None:
        self.store = self.open_store()
        self.now = T0
        self.n_sent = 0
        self.held: dict[int, str] = {}  # who was given which job, and was not told otherwise by the clock or a person
        self.send()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    @rule()
    def send(self) -> None:
        self.n_sent += 1
        keep(self.store, instance(self.n_sent).at(self.now))

    @rule(digest=st.sampled_from(["d0", "d1"]))
    def complete(self, digest: str) -> None:
        series = self.store.series.get(SERIES)
        is_open = series.state is SeriesState.RECEIVING
        assert self.store.closing.complete(series, closing(digest=digest), self.now) is is_open

    @rule(owner=OWNERS, digest=st.sampled_from(["d0", "d1"]))
    def claim(self, owner: str, digest: str) -> None:
        job = self.store.jobs.claim(owner, self.now, LEASE_S, pipeline_digest=digest)
        if job is not None:
            assert job.state is JobState.RUNNING
            assert job.pipeline_digest == digest
            assert job.generation == self.store.series.get(SERIES).generation
            self.held[job.id] = owner

    @rule(owner=OWNERS, how=st.sampled_from(["succeed", "wait", "die", "release", "heartbeat"]), data=st.data())
    def report(self, owner: str, how: str, data: st.DataObject) -> None:
        known = self.store.jobs.list()
        if not known:
            return
        job = data.draw(st.sampled_from(known))
        may = job.state is JobState.RUNNING and job.owner == owner
        assert not may or self.held[job.id] == owner
        jobs = self.store.jobs
        retry_at = self.now + timedelta(seconds=30) if how == "wait" else None
        try:
            if how == "succeed":
                jobs.succeed(job.id, owner, Outcome(), self.now)
                did = True
            elif how == "release":
                did = jobs.release(job.id, owner, self.now)
            elif how == "heartbeat":
                did = jobs.heartbeat(job.id, owner, self.now, LEASE_S)
            else:
                jobs.fail(job.id, owner, code="x", message="m", detail=None, retry_at=retry_at, now=self.now)
                did = True
        except LeaseLostError:
            did = False
        assert did is may
        if not may:
            assert jobs.get(job.id) == job

    @rule(wanted=st.sampled_from([JobState.QUEUED, JobState.CANCELLED]), data=st.data())
    def administer(self, wanted: JobState, data: st.DataObject) -> None:
        known = self.store.jobs.list()
        if not known:
            return
        job = data.draw(st.sampled_from(known))
        act = self.store.jobs.retry if wanted is JobState.QUEUED else self.store.jobs.cancel
        is_legal = wanted in TRANSITIONS[job.state] and (wanted, job.state) != (JobState.QUEUED, JobState.RUNNING)
        try:
            assert act(job.id, self.now).state is wanted
            assert is_legal
        except IllegalTransitionError:
            assert not is_legal
            assert self.store.jobs.get(job.id) == job

    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.store.jobs.expire_leases(self.now, max_attempts=3)

    @invariant()
    def events_tell_the_whole_story(self) -> None:
        if not hasattr(self, "store"):
            return
        generation = self.store.series.get(SERIES).generation
        keys = set()
        for job in self.store.jobs.list():
            state = None
            for event in self.store.jobs.events(job.id):
                assert event.from_state is state
                assert state is None or event.to_state in TRANSITIONS[state]
                state = event.to_state
            assert state is job.state
            assert (job.owner is None) == (job.lease_expires_at is None) == (job.state is not JobState.RUNNING)
            assert (job.retry_at is None) == (job.state is not JobState.WAITING)
            is_old = job.generation < generation
            assert not is_old or job.state in (JobState.SUPERSEDED, JobState.SUCCEEDED)
            keys.add((job.generation, job.pipeline_digest))
        assert len(keys) == len(self.store.jobs.list())


N_LIVES = {"sqlite": 15, "postgresql": 5}  # the latter takes three times as long


def test_the_jobs_rules_are_kept(new_store: StoreMaker, database: str, tmp_path: Path) -> None:
    life = settings(stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(
        lambda: JobLife(lambda: new_store(tmp_path / uuid4().hex)),
        settings=settings(life, max_examples=N_LIVES[database]),
    )

"""Many claim at once, next to other writers: each row goes to one of them, and nobody waits who need not."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from dicom_node.store import (
    IllegalTransitionError,
    IndexUnavailableError,
    JobRow,
    JobState,
    Kept,
    LeaseLostError,
    NotFoundError,
    Outcome,
    Store,
)
from dicom_node.store.schema import deliveries, job_events, jobs
from dicom_node.store.work.transitions import JOB_COLUMNS, job_row, move_job
from tests.new_store import StoreMaker
from tests.store.crashing import outcome
from tests.store.sending import SERIES, T0, closing, instance, keep, received_series

ONLY_POSTGRESQL = pytest.mark.parametrize(
    "database", [pytest.param("postgresql", marks=pytest.mark.peers)], indirect=True
)
LEASE_S = 600.0
N_SERIES, N_CLAIMS = 6, 5


def queue(store: Store, number: int) -> JobRow:
    series = f"{SERIES}.{number}"
    row = received_series(store, n_instances=1, series=series, study=f"1.2.3.{number}")
    assert store.closing.complete(row, closing(), T0)
    (job,) = store.jobs.list(series_instance_uid=series)
    return job


def claim(store: Store, owner: str, now: datetime = T0) -> JobRow | None:
    return store.jobs.claim(owner, now, LEASE_S, pipeline_digest="d1")


@ONLY_POSTGRESQL
def test_claims_and_leases_do_not_wait_for_a_long_transaction_of_another_writer(
    store: Store, new_store: StoreMaker
) -> None:
    queue(store, 1)
    with new_store.again(store.data_dir) as other:
        job = claim(other, "w1")
        assert job is not None
        other.jobs.succeed(job.id, "w1", outcome(3), T0)
        queue(store, 2)
        with store._database.write(), ThreadPoolExecutor(1) as pool:
            began = time.monotonic()
            job = pool.submit(claim, other, "w1").result(30)
            assert job is not None
            assert pool.submit(other.jobs.heartbeat, job.id, "w1", T0, LEASE_S).result(30)
            claimed = pool.submit(other.deliveries.claim_due, "w1", T0, LEASE_S).result(30)
            assert pool.submit(other.deliveries.heartbeat, claimed[0].id, "w1", T0, LEASE_S).result(30)
            assert time.monotonic() - began < 30


@ONLY_POSTGRESQL
def test_a_row_that_another_is_just_claiming_is_skipped(store: Store, new_store: StoreMaker) -> None:
    first, second = queue(store, 1), queue(store, 2)
    with new_store.again(store.data_dir) as other, store._database.claim() as connection:
        connection.execute(sa.select(jobs.c.id).where(jobs.c.id == first.id).with_for_update())
        assert claim(other, "w2") == other.jobs.get(second.id)
        assert claim(other, "w2") is None
    assert claim(store, "w1") == store.jobs.get(first.id)


def test_many_who_claim_deliveries_at_once_get_each_once(store: Store, new_store: StoreMaker) -> None:
    for number in range(1, 9):
        queue(store, number)
        job = claim(store, "w")
        assert job is not None
        store.jobs.succeed(job.id, "w", outcome(number), T0)

    def claim_all(taker: Store) -> list[int]:
        taken: list[int] = []
        while claimed := taker.deliveries.claim_due("w", T0, LEASE_S, limit=2, peer="pacs"):
            taken += [one.id for one in claimed]
        return taken

    with new_store.again(store.data_dir) as other, ThreadPoolExecutor(4) as pool:
        taken = [one for some in pool.map(claim_all, (store, other, store, other)) for one in some]
    assert sorted(taken) == sorted(one.id for one in store.deliveries.list(peer="pacs"))


@ONLY_POSTGRESQL
@pytest.mark.parametrize("act", ["cancel", "retry", "supersede", "delete"])
def test_who_moves_a_job_that_is_just_being_claimed_waits_for_the_claim(
    store: Store, new_store: StoreMaker, act: str
) -> None:
    job = queue(store, 1)
    acts: dict[str, Callable[[Store], object]] = {
        "cancel": lambda other: other.jobs.cancel(job.id, T0),
        "retry": lambda other: other.jobs.retry(job.id, T0),
        "supersede": lambda other: keep(other, instance(2, series=job.series_instance_uid, study="1.2.3.1")),
        "delete": lambda other: other.erasure.delete("1.2.3.1", reason="consent", decided_by="Ann", now=T0),
    }
    with new_store.again(store.data_dir) as other, ThreadPoolExecutor(1) as pool:
        with store._database.claim() as connection:
            _take(connection, job)
            acting = pool.submit(acts[act], other)
            with pytest.raises(TimeoutError):
                acting.result(0.5)
        with pytest.raises(IllegalTransitionError) if act == "retry" else nullcontext():
            acting.result(30)
    left = {"cancel": JobState.CANCELLED, "retry": JobState.RUNNING, "supersede": JobState.SUPERSEDED}
    assert [one.state for one in store.jobs.list()] == ([left[act]] if act in left else [])


@ONLY_POSTGRESQL
def test_who_retries_a_delivery_that_is_just_being_claimed_waits_for_the_claim(
    store: Store, new_store: StoreMaker
) -> None:
    queue(store, 1)
    job = claim(store, "w")
    assert job is not None
    store.jobs.succeed(job.id, "w", outcome(1), T0)
    (delivery,) = store.deliveries.claim_due("w", T0, LEASE_S, peer="pacs")
    store.deliveries.fail(delivery.id, "w", code="x", message="m", retry_at=T0, now=T0)
    with new_store.again(store.data_dir) as other, ThreadPoolExecutor(1) as pool:
        with store._database.claim() as connection:
            values = {"state": "running", "owner": "w", "lease_expires_at": T0, "retry_at": None}
            connection.execute(sa.update(deliveries).where(deliveries.c.id == delivery.id).values(values))
            retrying = pool.submit(other.deliveries.retry, delivery.id)
            with pytest.raises(TimeoutError):
                retrying.result(0.5)
        with pytest.raises(IllegalTransitionError):
            retrying.result(30)


def _take(connection: sa.Connection, job: JobRow) -> None:
    locked = connection.execute(sa.select(*JOB_COLUMNS).where(jobs.c.id == job.id).with_for_update(skip_locked=True))
    lease = {"owner": "w1", "lease_expires_at": T0 + timedelta(seconds=LEASE_S)}
    move_job(connection, job_row(locked.one()), JobState.RUNNING, "claimed", T0, **lease)


def test_people_senders_and_workers_at_once_leave_a_story_that_fits(store: Store, new_store: StoreMaker) -> None:
    """Jobs are claimed, ended, cancelled, retried, superseded, run out and deleted, all at the same time."""
    queued = [queue(store, number) for number in range(N_SERIES)]
    over = threading.Event()
    with new_store.again(store.data_dir) as other, ThreadPoolExecutor(6) as pool:
        others = [pool.submit(_act_as_a_person, other, queued, over), pool.submit(_send_and_expire, store, over)]
        workers = [pool.submit(_work, other if number % 2 else store, f"w{number}") for number in range(3)]
        try:
            assert sum(worker.result() for worker in workers) > N_SERIES
        finally:
            over.set()
        assert [one.result() for one in others] == [None, None]
    for job in store.jobs.list(limit=1000):
        state = None
        for event in store.jobs.events(job.id):
            assert event.from_state is state
            state = event.to_state
        assert state is job.state
    with store._database.read() as connection:
        lost = sa.select(job_events.c.id).where(job_events.c.job_id.not_in(sa.select(jobs.c.id)))
        assert connection.execute(lost).all() == []


def _work(store: Store, owner: str) -> int:
    """Claim some jobs, or as many as there are within a time; return how many."""
    rng, n_claimed, end_at = random.Random(owner), 0, time.monotonic() + 30
    while n_claimed < N_CLAIMS and time.monotonic() < end_at:
        job = claim(store, owner, T0 + timedelta(hours=1))
        if job is None:
            time.sleep(0.01)
            continue
        n_claimed += 1
        with suppress(LeaseLostError, NotFoundError):
            how = rng.choice(("succeed", "fail", "wait", "release", "leave"))
            if how == "succeed":
                store.jobs.succeed(job.id, owner, Outcome(), T0)
            elif how == "release":
                store.jobs.release(job.id, owner, T0)
            elif how != "leave":
                retry_at = None if how == "fail" else T0
                store.jobs.fail(job.id, owner, code="x", message="m", detail=None, retry_at=retry_at, now=T0)
    return n_claimed


def _act_as_a_person(store: Store, queued: list[JobRow], over: threading.Event) -> None:
    rng = random.Random("person")
    while not over.wait(0.05):
        job = rng.choice(queued)
        with suppress(IllegalTransitionError, NotFoundError):
            if rng.random() < 0.1:
                store.erasure.delete(job.study_instance_uid, reason="consent", decided_by="Ann", now=T0)
            elif rng.random() < 0.3:
                store.jobs.cancel(job.id, T0)
            else:
                store.jobs.retry(job.id, T0)


def _send_and_expire(store: Store, over: threading.Event) -> None:
    rng, number = random.Random("sender"), 1
    while not over.wait(0.05):
        number += 1
        which = rng.randrange(N_SERIES)
        series = f"{SERIES}.{which}"
        keep(store, instance(number, series=series, study=f"1.2.3.{which}"))  # a later generation
        store.closing.complete(store.series.get(series), closing(), T0)
        store.jobs.expire_leases(T0 + timedelta(hours=2))


@ONLY_POSTGRESQL
def test_a_writer_that_is_there_but_stands_still_does_not_hold_all_others(
    store: Store, new_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its machine is suspended, or a thread of it hangs on a disk."""
    monkeypatch.setattr("dicom_node.store.postgresql.IDLE_WRITER_S", 1.0)

    def write_and_stand_still() -> None:
        with other._database.write() as connection:
            _keep_until_taken(store)
            connection.execute(sa.select(1))

    with new_store.again(store.data_dir) as other, pytest.raises(IndexUnavailableError):
        write_and_stand_still()


def _keep_until_taken(store: Store) -> None:
    """Send as a sender does that is told to come back."""
    for _ in range(20):
        with suppress(IndexUnavailableError):
            assert keep(store, instance(1)) is Kept.STORED
            return
    pytest.fail("the other writer was not thrown out")

"""The outbox: every result to every peer once, through failures."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from dicom_node.store import (
    DeliveryRow,
    IllegalTransitionError,
    JobState,
    LeaseLostError,
    NotFoundError,
    Store,
)
from tests.store.crashing import outcome
from tests.store.sending import T0, closing, received_series


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


@pytest.fixture
def outbox(store: Store) -> Store:
    """A store in which one result waits for two peers."""
    store.closing.complete(received_series(store, n_instances=1), closing(), T0)
    job = store.jobs.claim("w", T0, 60, pipeline_digest="d1")
    assert job is not None
    store.jobs.succeed(job.id, "w", outcome(3), T0)
    return store


def claim(store: Store, seconds: float = 0, owner: str = "d1", peer: str | None = "pacs") -> DeliveryRow:
    (delivery,) = store.deliveries.claim_due(owner, at(seconds), 60, peer=peer)
    return delivery


def test_a_claimed_delivery_has_all_that_sending_needs(outbox: Store) -> None:
    delivery = claim(outbox)
    (result,) = outbox.jobs.results(delivery.job_id)
    assert (delivery.peer, delivery.attempt_number, delivery.owner) == ("pacs", 1, "d1")
    assert (delivery.digest, delivery.sop_instance_uid) == (result.digest, result.sop_instance_uid)
    assert delivery.lease_expires_at == at(60)
    assert outbox.deliveries.claim_due("d2", at(1), 60, peer="pacs") == ()


def test_one_claim_takes_deliveries_to_one_peer_only(outbox: Store) -> None:
    assert [outbox.deliveries.claim_due("d", at(0), 60)[0].peer for _ in range(2)] == ["pacs", "archive"]
    assert outbox.deliveries.claim_due("d", at(0), 60) == ()


def test_a_delivered_result_is_not_due_again(outbox: Store) -> None:
    delivery = claim(outbox)
    outbox.deliveries.succeed(delivery.id, "d1", at(5))
    done = outbox.deliveries.get(delivery.id)
    assert (done.state, done.ended_at, done.owner) == (JobState.SUCCEEDED, at(5), None)
    assert outbox.deliveries.claim_due("d1", at(1e6), 60, peer="pacs") == ()
    with pytest.raises(LeaseLostError, match=f"delivery {delivery.id}"):
        outbox.deliveries.succeed(delivery.id, "d1", at(6))


def test_a_failed_delivery_waits_then_dies_then_is_retried(outbox: Store) -> None:
    delivery = claim(outbox)
    failure = {"code": "peer-unreachable", "message": "no answer"}
    assert outbox.deliveries.fail(delivery.id, "d1", **failure, retry_at=at(30), now=at(1)) is JobState.WAITING
    assert outbox.deliveries.claim_due("d1", at(29), 60, peer="pacs") == ()
    assert claim(outbox, 30).attempt_number == 2
    assert outbox.deliveries.fail(delivery.id, "d1", **failure, retry_at=None, now=at(31)) is JobState.DEAD
    (dead,) = outbox.deliveries.list(states=[JobState.DEAD])
    assert (dead.error_code, dead.error_message, dead.ended_at) == ("peer-unreachable", "no answer", at(31))
    assert outbox.deliveries.counts() == {JobState.DEAD: 1, JobState.QUEUED: 1}
    assert outbox.deliveries.retry(delivery.id).attempt_number == 0
    assert claim(outbox, 32).attempt_number == 1


def test_an_expired_lease_is_given_to_another_sender(outbox: Store) -> None:
    delivery = claim(outbox)
    assert outbox.deliveries.heartbeat(delivery.id, "d1", at(30), 60)
    assert outbox.deliveries.expire_leases(at(89)) == 0
    assert outbox.deliveries.expire_leases(at(91)) == 1
    assert claim(outbox, 92, owner="d2").attempt_number == 2
    assert not outbox.deliveries.heartbeat(delivery.id, "d1", at(93), 60)
    with pytest.raises(LeaseLostError):
        outbox.deliveries.succeed(delivery.id, "d1", at(94))
    assert outbox.deliveries.get(delivery.id).owner == "d2"


def test_what_a_person_may_do_depends_on_the_state(outbox: Store) -> None:
    delivery = claim(outbox)
    with pytest.raises(IllegalTransitionError, match="is running"):
        outbox.deliveries.retry(delivery.id)
    assert outbox.deliveries.cancel(delivery.id, at(1)).state is JobState.CANCELLED
    assert outbox.deliveries.retry(delivery.id).state is JobState.QUEUED
    with pytest.raises(NotFoundError, match="delivery 99"):
        outbox.deliveries.get(99)


def test_deliveries_are_listed_by_job_and_peer(outbox: Store) -> None:
    (job,) = outbox.jobs.list()
    assert [delivery.peer for delivery in outbox.deliveries.list(job_id=job.id)] == ["archive", "pacs"]
    assert len(outbox.deliveries.list(peer="pacs")) == 1
    assert outbox.deliveries.list(job_id=job.id + 1) == ()

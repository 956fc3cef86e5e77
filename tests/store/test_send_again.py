"""What a peer has accepted is sent again when a person wants it, as a new delivery of the same object."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.store import CommitmentState, DeliveryRow, JobState, NotSendableError, Store
from tests.store.crashing import outcome
from tests.store.sending import SERIES, STUDY, T0, closing, received_series

LATER = T0 + timedelta(hours=1)


@pytest.fixture
def delivered(store: Store) -> DeliveryRow:
    """A result that `pacs` has accepted and committed to; that to `archive` still waits."""
    store.closing.complete(received_series(store, n_instances=1), closing(), T0)
    job = store.jobs.claim("w", T0, 60, pipeline_digest="d1")
    assert job is not None
    store.jobs.succeed(job.id, "w", outcome(3), T0)
    (delivery,) = store.deliveries.claim_due("w", T0, 60, peer="pacs")
    store.deliveries.succeed(delivery.id, "w", T0, is_to_be_committed=True)
    return store.deliveries.get(delivery.id)


def commit(store: Store, transaction_uid: str) -> None:
    due = store.commitments.due("pacs", LATER, limit=9)
    store.commitments.prepare(transaction_uid, "pacs", due, now=LATER, ask_again_at=LATER)
    asked = [(one.sop_class_uid, one.sop_instance_uid) for one in due]
    store.commitments.take_report(transaction_uid, ["pacs"], committed=asked, failed={}, now=LATER)


def test_the_same_object_goes_out_as_a_new_delivery(store: Store, delivered: DeliveryRow) -> None:
    again = store.deliveries.send_again(delivered.id, by="op", now=LATER)
    assert (again.state, again.attempt_number, again.peer) == (JobState.QUEUED, 0, "pacs")
    assert (again.sop_instance_uid, again.digest) == (delivered.sop_instance_uid, delivered.digest)
    assert (again.result_id, again.job_id) == (delivered.result_id, delivered.job_id)
    before = store.deliveries.get(delivered.id)
    assert (before.state, before.replaced_by_id) == (JobState.SUCCEEDED, again.id)
    (entry,) = store.audit.list()
    assert (entry.actor, entry.action, entry.subject) == ("op", "sent-again", delivered.sop_instance_uid)
    assert entry.detail == {"peer": "pacs", "delivery": again.id, "replaces": delivered.id}
    (claimed,) = store.deliveries.claim_due("w", LATER, 60, peer="pacs")
    assert claimed.id == again.id


def test_a_commitment_has_to_be_given_anew_and_an_old_report_does_not_count(
    store: Store, delivered: DeliveryRow
) -> None:
    store.commitments.prepare("1.2.3", "pacs", [delivered], now=T0, ask_again_at=LATER)
    again = store.deliveries.send_again(delivered.id, by="op", now=LATER)
    (claimed,) = store.deliveries.claim_due("w", LATER, 60, peer="pacs")
    store.deliveries.succeed(claimed.id, "w", LATER, is_to_be_committed=True)
    asked = [(delivered.sop_class_uid, delivered.sop_instance_uid)]
    store.commitments.take_report("1.2.3", ["pacs"], committed=asked, failed={}, now=LATER)
    assert store.deliveries.get(again.id).commitment is CommitmentState.DUE
    (source,) = store.retention.survey(committing_peers=["pacs"])
    assert source.is_uncommitted
    commit(store, "1.2.4")
    assert store.deliveries.get(again.id).commitment is CommitmentState.COMMITTED
    (source,) = store.retention.survey(committing_peers=["pacs"])
    assert not source.is_uncommitted


def test_what_was_not_delivered_or_was_sent_again_is_refused(store: Store, delivered: DeliveryRow) -> None:
    (waiting,) = store.deliveries.list(peer="archive")
    with pytest.raises(NotSendableError, match=r"it is queued, .*deliveries retry"):
        store.deliveries.send_again(waiting.id, by="op", now=LATER)
    again = store.deliveries.send_again(delivered.id, by="op", now=LATER)
    with pytest.raises(NotSendableError, match=f"again already, as delivery {again.id}"):
        store.deliveries.send_again(delivered.id, by="op", now=LATER)


def test_deliveries_are_chosen_by_job_series_study_and_peer(store: Store, delivered: DeliveryRow) -> None:
    chosen = store.deliveries.sendable_again
    for by in (
        {"job_id": delivered.job_id},
        {"series_instance_uid": SERIES},
        {"series_instance_uid": delivered.series_instance_uid},
        {"study_instance_uid": STUDY},
        {"study_instance_uid": STUDY, "peer": "pacs"},
    ):
        assert chosen(**by) == (delivered,)
    for by in ({"job_id": 99}, {"series_instance_uid": "9"}, {"study_instance_uid": STUDY, "peer": "archive"}):
        assert chosen(**by) == ()


def test_a_result_that_was_replaced_is_not_sent_again(store: Store, delivered: DeliveryRow) -> None:
    store.closing.reopen(SERIES, LATER)
    store.closing.complete(store.series.get(SERIES), closing(), LATER)
    job = store.jobs.claim("w", LATER, 60, pipeline_digest="d1")
    assert job is not None
    store.jobs.succeed(job.id, "w", outcome(4), LATER)
    assert store.deliveries.sendable_again(study_instance_uid=STUDY) == ()
    with pytest.raises(NotSendableError, match="a later result has replaced its object, or it was withdrawn"):
        store.deliveries.send_again(delivered.id, by="op", now=LATER)

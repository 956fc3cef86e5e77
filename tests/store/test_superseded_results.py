"""A later generation's results take the place of the earlier ones'."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from dicom_node.store import (
    DeliveryRow,
    IllegalTransitionError,
    JobRow,
    JobState,
    LeaseLostError,
    NewResult,
    Outcome,
    Store,
)
from tests.store.sending import SERIES, STUDY, T0, closing, instance, keep, received_series


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def seg(number: int) -> NewResult:
    """A result in a series of its own, as each generation writes it."""
    sent = instance(1, series=f"1.9.{number}", Modality="SEG", n_pixel_bytes=64)
    arrival = sent.arrival
    return NewResult("seg", 1, arrival.sop_class_uid, sent.uid, arrival.transfer_syntax_uid, sent.encoded)


def finish(store: Store, *results: NewResult, seconds: float = 0) -> JobRow:
    """Close the series and finish its job with these results, bound for two peers."""
    store.closing.complete(store.series.get(SERIES), closing(), at(seconds))
    job = store.jobs.claim("w", at(seconds), 60, pipeline_digest="d1")
    assert job is not None
    store.jobs.succeed(job.id, "w", Outcome(results, deliver_to=("pacs", "archive")), at(seconds))
    return job


@pytest.fixture
def first(store: Store) -> JobRow:
    """The first generation has a result, which one of two peers has got."""
    received_series(store, n_instances=2)
    job = finish(store, seg(1))
    (delivery,) = store.deliveries.claim_due("d", at(1), 60, peer="pacs")
    store.deliveries.succeed(delivery.id, "d", at(1))
    return job


def found(store: Store) -> set[str]:
    return {str(one["0020000E"]["Value"][0]) for one in store.search.search_series({"StudyInstanceUID": STUDY})}


def states(store: Store, job: JobRow) -> dict[str, JobState]:
    return {delivery.peer: delivery.state for delivery in store.deliveries.list(job_id=job.id)}


def test_a_late_instance_stops_what_was_not_delivered_yet(store: Store, first: JobRow) -> None:
    keep(store, instance(3).at(at(10)))
    assert states(store, first) == {"pacs": JobState.SUCCEEDED, "archive": JobState.SUPERSEDED}
    assert store.deliveries.claim_due("d", at(1e6), 60) == ()
    (stopped,) = store.deliveries.list(job_id=first.id, peer="archive")
    assert stopped.ended_at == at(10)
    with pytest.raises(IllegalTransitionError):
        store.deliveries.retry(stopped.id)


def test_starting_a_series_over_stops_what_was_not_delivered_yet(store: Store, first: JobRow) -> None:
    assert store.closing.reopen(SERIES, at(10))
    assert states(store, first)["archive"] is JobState.SUPERSEDED


def test_a_delivery_under_way_is_not_counted_when_it_was_overtaken(store: Store, first: JobRow) -> None:
    delivery: DeliveryRow
    (delivery,) = store.deliveries.claim_due("d", at(2), 60, peer="archive")
    keep(store, instance(3).at(at(10)))
    with pytest.raises(LeaseLostError):
        store.deliveries.succeed(delivery.id, "d", at(11))


def test_earlier_results_are_offered_until_later_ones_are_there(store: Store, first: JobRow) -> None:
    keep(store, instance(3).at(at(10)))
    assert found(store) == {SERIES, "1.9.1"}
    second = finish(store, seg(2), seconds=20)
    assert found(store) == {SERIES, "1.9.2"}
    (old,) = store.jobs.results(first.id)
    assert old.superseded_by_job_id == second.id
    (new,) = store.jobs.results(second.id)
    assert (new.superseded_by_job_id, new.result_series_instance_uid) == (None, "1.9.2")


def test_a_replaced_result_is_found_by_its_own_uid_only(store: Store, first: JobRow) -> None:
    (old,) = store.jobs.results(first.id)
    keep(store, instance(3).at(at(10)))
    finish(store, seg(2), seconds=20)
    search = store.search
    assert {row.series_instance_uid for row in search.find_instances(study_instance_uid=STUDY)} == {SERIES, "1.9.2"}
    assert search.find_instances(study_instance_uid=STUDY, series_instance_uid="1.9.1") == ()
    (row,) = search.find_instances(study_instance_uid=STUDY, sop_instance_uid=old.sop_instance_uid)
    assert row.digest == old.digest
    of_study = search.search_instances({"StudyInstanceUID": STUDY})
    assert old.sop_instance_uid not in {one["00080018"]["Value"][0] for one in of_study}
    (study,) = search.search_studies({"StudyInstanceUID": STUDY})
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([2], [4])


def test_a_generation_that_finds_nothing_replaces_the_earlier_results_all_the_same(store: Store, first: JobRow) -> None:
    keep(store, instance(3).at(at(10)))
    finish(store, seconds=20)
    assert found(store) == {SERIES}


def test_the_predecessors_of_a_job_are_all_results_before_it(store: Store, first: JobRow) -> None:
    assert store.jobs.predecessors(first) == ()
    keep(store, instance(3).at(at(10)))
    empty = finish(store, seconds=20)
    assert [row.job_id for row in store.jobs.predecessors(empty)] == [first.id]
    keep(store, instance(4).at(at(30)))
    third = finish(store, seg(3), seconds=40)
    assert [row.job_id for row in store.jobs.predecessors(third)] == [first.id]
    keep(store, instance(5).at(at(50)))
    fourth = finish(store, seg(4), seconds=60)
    assert [row.job_id for row in store.jobs.predecessors(fourth)] == [first.id, third.id]

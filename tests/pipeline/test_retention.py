"""Sources go only when the policy says so and nothing needs them any more; acknowledged bytes never go by accident."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.pipeline.retention import delete_old_sources
from dicom_node.pipeline.rules import load_rules
from dicom_node.store import JobState, Kept, NewResult, ObjectMissingError, Outcome, SeriesState, Store
from tests.arrivals import NOON, complete_quiet, dataset_bytes, receive
from tests.factories import SyntheticSeries, ct_series, mr_series

RULES = load_rules(None, peer_names=())
CLOSED_AT = NOON + timedelta(minutes=1)
OLD_ENOUGH = CLOSED_AT + timedelta(days=30, seconds=1)


@pytest.fixture
def series() -> SyntheticSeries:
    return ct_series(n_slices=4, rows=16, columns=12)


def finish(store: Store, series: SyntheticSeries, *, deliver_to: tuple[str, ...] = ("pacs",)) -> str:
    """Receive a series and end its job with one result; gives the digest of the result."""
    receive(store, series)
    complete_quiet(store, RULES, pipeline_digest="d", quiet_s=1, now=CLOSED_AT)
    job = store.jobs.claim("w", CLOSED_AT, 60, pipeline_digest="d")
    assert job is not None
    result = mr_series(n_slices=1)[0]
    ds = result.dataset()
    new = NewResult(
        kind="seg",
        stack_number=1,
        sop_class_uid=ds.SOPClassUID,
        sop_instance_uid=ds.SOPInstanceUID,
        transfer_syntax_uid=ds.file_meta.TransferSyntaxUID,
        encoded_dataset=dataset_bytes(result.part10),
    )
    (row,) = store.jobs.succeed(job.id, "w", Outcome(results=(new,), deliver_to=deliver_to), CLOSED_AT)
    return row.digest


def deliver_all(store: Store) -> None:
    for delivery in store.deliveries.claim_due("w", CLOSED_AT, 60):
        store.deliveries.succeed(delivery.id, "w", CLOSED_AT)


def objects(store: Store) -> set[str]:
    return {path.stem for path in store.objects.folder.rglob("*.dcm")}


def delete(store: Store, *, days: float | None = 30.0) -> int:
    return delete_old_sources(store, sources_days=days, now=OLD_ENOUGH)


def test_finished_and_delivered_sources_go_and_results_stay(store: Store, series: SyntheticSeries) -> None:
    result_digest = finish(store, series)
    deliver_all(store)
    assert delete_old_sources(store, sources_days=30.0, now=OLD_ENOUGH - timedelta(seconds=2)) == 0
    assert len(objects(store)) == 5
    assert delete(store) == 1
    assert objects(store) == {result_digest}
    assert store.series.get(series.series_instance_uid).state is SeriesState.DELETED
    assert store.series.instances(series.series_instance_uid) == ()
    (job,) = store.jobs.list()
    assert job.state is JobState.SUCCEEDED
    (entry,) = store.audit.list()
    assert (entry.action, entry.subject) == ("sources-deleted", series.series_instance_uid)
    assert entry.detail["n_instances"] == 4
    assert delete(store) == 0


def test_nothing_goes_without_a_policy(store: Store, series: SyntheticSeries) -> None:
    finish(store, series)
    deliver_all(store)
    assert delete(store, days=None) == 0
    assert len(objects(store)) == 5


def test_what_is_not_delivered_stays(store: Store, series: SyntheticSeries) -> None:
    finish(store, series)
    assert delete(store) == 0
    (delivery,) = store.deliveries.claim_due("w", CLOSED_AT, 60)
    store.deliveries.fail(delivery.id, "w", code="c", message="m", retry_at=None, now=CLOSED_AT)
    assert delete(store) == 0
    assert len(objects(store)) == 5


@pytest.mark.parametrize("ending", ["queued", "dead", "cancelled"])
def test_what_still_needs_a_person_or_a_worker_stays(store: Store, series: SyntheticSeries, ending: str) -> None:
    receive(store, series)
    complete_quiet(store, RULES, pipeline_digest="d", quiet_s=1, now=CLOSED_AT)
    (job,) = store.jobs.list()
    if ending == "dead":
        store.jobs.claim("w", CLOSED_AT, 60, pipeline_digest="d")
        store.jobs.fail(job.id, "w", code="c", message="m", detail=None, retry_at=None, now=CLOSED_AT)
    if ending == "cancelled":
        store.jobs.cancel(job.id, CLOSED_AT)
    assert delete(store) == 0
    assert len(objects(store)) == 4


def test_a_series_that_is_still_arriving_stays(store: Store, series: SyntheticSeries) -> None:
    finish(store, series[:3])  # type: ignore[arg-type]
    deliver_all(store)
    receive(store, series[3:], at=CLOSED_AT)
    assert delete(store) == 0


def test_a_deleted_series_that_is_sent_again_is_a_new_generation(store: Store, series: SyntheticSeries) -> None:
    finish(store, series)
    deliver_all(store)
    delete(store)
    receive(store, series, at=OLD_ENOUGH)
    row = store.series.get(series.series_instance_uid)
    assert (row.state, row.generation, row.n_instances) == (SeriesState.RECEIVING, 2, 4)
    later = OLD_ENOUGH + timedelta(minutes=1)
    assert complete_quiet(store, RULES, pipeline_digest="d", quiet_s=1, now=later) == 1


def test_bytes_that_are_sent_again_while_they_are_deleted_are_kept(
    store: Store, series: SyntheticSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(store, series)
    deliver_all(store)
    link = store.objects.link

    def link_and_lose_the_race(*args: object) -> object:
        monkeypatch.setattr(store.objects, "link", link)
        folder = link(*args)
        assert delete(store) == 1
        return folder

    monkeypatch.setattr(store.objects, "link", link_and_lose_the_race)
    receive(store, series[:1], at=OLD_ENOUGH)
    (row,) = store.series.instances(series.series_instance_uid)
    assert store.objects.read_dataset_bytes(row.digest) == dataset_bytes(series[0].part10)


def test_bytes_that_a_conflict_names_stay(store: Store, series: SyntheticSeries) -> None:
    finish(store, series)
    deliver_all(store)
    (kept, *_) = store.series.instances(series.series_instance_uid)
    other = series[0].edited(lambda ds: setattr(ds, "PatientComments", "other bytes under the same UID"))
    receive(store, [other], at=CLOSED_AT, expected=Kept.CONFLICT)
    (conflict,) = store.series.conflicts()
    delete(store)
    assert store.objects.read_dataset_bytes(conflict.digest) == dataset_bytes(other.part10)
    with pytest.raises(ObjectMissingError):
        store.objects.open(kept.digest)


def test_a_crash_between_rows_and_bytes_is_cleared_up_at_the_next_start(
    store: Store, series: SyntheticSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result_digest = finish(store, series)
    deliver_all(store)
    monkeypatch.setattr(store.retention, "_remove_unnamed", _killed)
    monkeypatch.setattr(Path, "unlink", _killed)
    with pytest.raises(KeyboardInterrupt):
        delete(store)
    monkeypatch.undo()
    assert len(objects(store)) == 5
    store.close()
    with Store.open(tmp_path / "data") as again:
        assert objects(again) == {result_digest}


def _killed(*_args: object, **_options: object) -> None:
    raise KeyboardInterrupt

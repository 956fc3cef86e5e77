"""Sources go only when the policy says so and nothing needs them any more; acknowledged bytes never go by accident."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.gate.judging import standing_of
from dicom_node.pipeline.retention import delete_sources, plan_deletions, relieve_disk
from dicom_node.pipeline.rules import load_rules
from dicom_node.settings import RetentionSettings
from dicom_node.store import (
    Closing,
    JobState,
    Kept,
    NewExport,
    NewResult,
    ObjectMissingError,
    Outcome,
    SeriesState,
    Skip,
    Store,
    StudyEvidence,
    StudyJudgement,
    StudyState,
)
from dicom_node.store.work import retention as work_retention
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
    return delete_sources(store, RetentionSettings(sources_days=days), now=OLD_ENOUGH)


def test_finished_and_delivered_sources_go_and_results_stay(store: Store, series: SyntheticSeries) -> None:
    result_digest = finish(store, series)
    deliver_all(store)
    policy = RetentionSettings(sources_days=30.0)
    assert delete_sources(store, policy, now=OLD_ENOUGH - timedelta(seconds=2)) == 0
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
    monkeypatch.setattr(work_retention, "remove_unnamed", _killed)
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


def finish_many(store: Store, n_series: int) -> list[SyntheticSeries]:
    """Series that were closed one after the other, a minute apart, with nothing to deliver."""
    made = [ct_series(n_slices=2, rows=16, columns=12, seed=f"s{number}") for number in range(n_series)]
    for number, one in enumerate(made):
        moment = CLOSED_AT + timedelta(minutes=number)
        receive(store, one, at=moment - timedelta(seconds=30))
        complete_quiet(store, RULES, pipeline_digest="d", quiet_s=1, now=moment)
        job = store.jobs.claim("w", moment, 60, pipeline_digest="d")
        assert job is not None
        store.jobs.succeed(job.id, "w", Outcome(), moment)
    return made


def left(store: Store, made: list[SyntheticSeries]) -> list[int]:
    """Positions of the series that still have sources."""
    return [
        position
        for position, one in enumerate(made)
        if store.series.get(one.series_instance_uid).state is not SeriesState.DELETED
    ]


def test_beyond_the_size_the_oldest_go_and_no_more_than_needed(store: Store) -> None:
    made = finish_many(store, 4)
    sizes = [store.series.get(one.series_instance_uid).n_dataset_bytes for one in made]
    policy = RetentionSettings(max_source_bytes=sum(sizes[1:]) - 1)  # one byte too little for the last three
    assert delete_sources(store, policy, now=CLOSED_AT + timedelta(hours=1)) == 2
    assert left(store, made) == [2, 3]
    assert {entry.detail["because"] for entry in store.audit.list()} == {"size"}
    assert delete_sources(store, policy, now=CLOSED_AT + timedelta(hours=1)) == 0


def test_what_is_needed_counts_for_the_size_and_stays(store: Store) -> None:
    made = finish_many(store, 3)
    receive(store, ct_series(n_slices=9, seed="receiving"), at=CLOSED_AT)
    assert delete_sources(store, RetentionSettings(max_source_bytes=1), now=CLOSED_AT + timedelta(hours=1)) == 3
    assert left(store, made) == []
    assert store.retention.survey()[0].n_instances == 9


def test_a_disk_that_fills_up_is_relieved_before_the_receiver_refuses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = finish_many(store, 4)
    full = 10_000 - len(objects(store)) * 1000  # a small disk on which each object takes 1000 bytes

    def free_bytes() -> int:
        return 10_000 - len(objects(store)) * 1000

    monkeypatch.setattr(store.objects, "free_bytes", free_bytes)
    now = CLOSED_AT + timedelta(hours=1)
    assert relieve_disk(store, RetentionSettings(), now=now) == 0
    assert relieve_disk(store, RetentionSettings(emergency_free_bytes=full), now=now) == 0
    assert left(store, made) == [0, 1, 2, 3]
    assert relieve_disk(store, RetentionSettings(emergency_free_bytes=full + 1), now=now) == 1
    assert left(store, made) == [1, 2, 3]
    (entry,) = store.audit.list()
    assert entry.detail == {
        "because": "emergency", "n_instances": 2, "n_dataset_bytes": entry.detail["n_dataset_bytes"], "generation": 1
    }  # fmt: skip


def test_an_emergency_overrides_no_need(
    store: Store, series: SyntheticSeries, caplog: pytest.LogCaptureFixture
) -> None:
    finish(store, series)  # not delivered
    policy = RetentionSettings(emergency_free_bytes=2**62)
    assert relieve_disk(store, policy, now=OLD_ENOUGH) == 0
    assert "no sources may go" in caplog.text
    deliver_all(store)
    assert relieve_disk(store, policy, now=OLD_ENOUGH, committing_peers=["pacs"]) == 0
    assert relieve_disk(store, policy, now=OLD_ENOUGH) == 1


def test_sources_wait_for_the_export_of_their_study(store: Store, series: SyntheticSeries) -> None:
    finish(store, series)
    deliver_all(store)
    uid = series.study_instance_uid
    store.studies.decide(uid, _judged(StudyState.CLEARED), CLOSED_AT)
    policy = RetentionSettings(sources_days=30.0, wait_for_export=True)
    assert delete_sources(store, policy, now=OLD_ENOUGH) == 0
    (planned,) = plan_deletions(store.retention.survey(), policy, now=OLD_ENOUGH, free_bytes=0)
    assert planned.stays == "the study has not been exported"
    evidence = store.studies.get(uid).evidence_fingerprint
    assert evidence is not None
    new = NewExport(uid, "1.2.3", "P", "k" * 64, "folder", evidence, "g", "c" * 64, 4)
    row = store.exports.begin(new, lambda *_: True, CLOSED_AT)
    assert row is not None
    assert delete_sources(store, policy, now=OLD_ENOUGH) == 0  # only begun
    with store.exports.publishing(row, lambda *_: True, CLOSED_AT):
        pass
    assert delete_sources(store, policy, now=OLD_ENOUGH) == 1


def test_a_study_that_never_leaves_is_not_waited_for(store: Store, series: SyntheticSeries) -> None:
    finish(store, series)
    deliver_all(store)
    store.studies.decide(series.study_instance_uid, _judged(StudyState.BLOCKED), CLOSED_AT)
    assert delete_sources(store, RetentionSettings(sources_days=30.0, wait_for_export=True), now=OLD_ENOUGH) == 1


def _judged(state: StudyState) -> Callable[[StudyEvidence], StudyJudgement]:
    return lambda _: StudyJudgement(state, "made up", "g")


def test_a_deletion_is_no_new_evidence(store: Store, series: SyntheticSeries) -> None:
    """A clearance, and a release by a person, outlive the deletion of a scout and of what was looked at."""
    finish(store, series)
    scout = ct_series(n_slices=1, rows=16, columns=12, seed="scout", edit=_in_study(series))
    receive(store, scout)
    row = store.series.get(scout.series_instance_uid)
    store.closing.complete(row, Closing("quiet", False, "d", Skip("rule-localiser")), CLOSED_AT - timedelta(hours=1))
    deliver_all(store)
    uid = series.study_instance_uid
    store.studies.decide(uid, _judged(StudyState.CLEARED), CLOSED_AT)
    before = store.studies.evidence(uid)
    policy = RetentionSettings(sources_days=30.0)
    assert delete_sources(store, policy, now=OLD_ENOUGH - timedelta(minutes=30)) == 1
    assert store.series.get(scout.series_instance_uid).state is SeriesState.DELETED
    after = store.studies.evidence(uid)
    assert after.fingerprint == before.fingerprint == store.studies.get(uid).evidence_fingerprint
    assert [standing_of(one) for one in after.series] == [standing_of(one) for one in before.series]
    assert delete_sources(store, policy, now=OLD_ENOUGH) == 1
    assert store.studies.evidence(uid).fingerprint == before.fingerprint
    receive(store, scout, at=OLD_ENOUGH)  # sent again: a new generation is new evidence
    assert store.studies.evidence(uid).fingerprint != before.fingerprint


def _in_study(series: SyntheticSeries) -> Callable[[Dataset, int], None]:
    def edit(ds: Dataset, _: int) -> None:
        ds.StudyInstanceUID = series.study_instance_uid

    return edit


def test_a_second_patient_id_stays_a_doubt_when_its_series_is_deleted(store: Store, series: SyntheticSeries) -> None:
    finish(store, series)
    deliver_all(store)

    def of_another(ds: Dataset, index: int) -> None:
        _in_study(series)(ds, index)
        ds.PatientID = "SOMEBODY-ELSE"

    scout = ct_series(n_slices=1, rows=16, columns=12, seed="scout", edit=of_another)
    receive(store, scout)
    row = store.series.get(scout.series_instance_uid)
    store.closing.complete(row, Closing("quiet", False, "d", Skip("rule-localiser")), CLOSED_AT)
    assert store.studies.evidence(series.study_instance_uid).n_patients == 2
    assert store.retention.delete_sources(row, OLD_ENOUGH)
    assert store.studies.evidence(series.study_instance_uid).n_patients == 2

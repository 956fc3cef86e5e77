"""From quiet series to queued jobs, in a real store."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from pydicom.dataset import Dataset

from dicom_node.pipeline.intake import judge_due_studies
from dicom_node.pipeline.rules import Rules, load_rules
from dicom_node.store import JobState, SeriesState, Skip, Store, StudyState
from tests.arrivals import NOON, complete_quiet, receive
from tests.factories import ct_series, mr_series
from tests.store.sending import closing

QUIET_S = 30.0
LATER = NOON + timedelta(seconds=QUIET_S)
DIGEST = "d" * 64
DEFAULT = load_rules(None, peer_names=())


def complete(store: Store, *, now: datetime = LATER, rules: Rules = DEFAULT, digest: str = DIGEST) -> int:
    return complete_quiet(store, rules, pipeline_digest=digest, quiet_s=QUIET_S, now=now)


def test_a_series_gets_one_job_once_it_is_quiet(store: Store) -> None:
    series = ct_series(n_slices=4)
    receive(store, series)
    assert complete(store, now=LATER - timedelta(seconds=1)) == 0
    assert store.jobs.list() == ()
    assert complete(store) == 1
    assert complete(store) == 0
    (job,) = store.jobs.list()
    assert job.series_instance_uid == series.series_instance_uid
    assert job.generation == 1
    assert job.pipeline_digest == DIGEST
    assert job.queued_at == LATER
    assert store.studies.get(series.study_instance_uid).state is StudyState.REVIEW


def test_a_localiser_gets_none_and_the_reason_is_kept(store: Store) -> None:
    series = ct_series(n_slices=2)

    def localise(ds: Dataset, _index: int) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    receive(store, series.edited(localise))
    complete(store)
    assert store.jobs.list() == ()
    row = store.series.get(series.series_instance_uid)
    assert row.state is SeriesState.SKIPPED
    assert row.skip_reason is not None
    assert row.skip_reason.startswith("rule-localiser: ")
    assert store.studies.get(series.study_instance_uid).state is StudyState.REVIEW


def test_a_late_instance_starts_a_new_generation_with_a_job_of_its_own(store: Store) -> None:
    series = ct_series(n_slices=5)
    receive(store, series[:4])
    complete(store)
    receive(store, series[4:], at=LATER)
    assert store.studies.get(series.study_instance_uid).state is StudyState.OPEN
    complete(store, now=LATER + timedelta(seconds=QUIET_S))
    later, earlier = store.jobs.list()
    assert (earlier.generation, earlier.state) == (1, JobState.SUPERSEDED)
    assert (later.generation, later.state) == (2, JobState.QUEUED)
    assert len(store.series.instances(series.series_instance_uid, generation=2)) == 5


def test_an_instance_that_comes_while_a_series_is_closed_is_not_lost_to_the_job(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = ct_series(n_slices=5)
    receive(store, series[:4])
    instances = store.series.instances

    def instances_and_one_more(*args: str, **options: int) -> object:
        found = instances(*args, **options)
        monkeypatch.setattr(store.series, "instances", instances)
        receive(store, series[4:], at=LATER)
        return found

    monkeypatch.setattr(store.series, "instances", instances_and_one_more)
    assert complete(store) == 0
    assert store.jobs.list() == ()
    assert complete(store, now=LATER + timedelta(seconds=QUIET_S)) == 1
    assert store.series.get(series.series_instance_uid).n_instances == 5


def test_what_this_node_signed_is_not_processed_even_after_a_pacs_changed_it(store: Store) -> None:
    series = mr_series(n_slices=3)

    def sign(ds: Dataset, _index: int) -> None:
        ds.Manufacturer = "dicom-node project"
        ds.ManufacturerModelName = "dicom-node"
        ds.PatientID = "coerced"

    receive(store, series.edited(sign))
    complete(store)
    assert store.jobs.list() == ()
    assert str(store.series.get(series.series_instance_uid).skip_reason).startswith("own-result")


def test_rules_see_the_sender(store: Store) -> None:
    rules = Rules.model_validate(
        {"series": [{"name": "trial", "when": {"calling_ae_title": {"equals": "TRIAL"}}, "action": "process"}]}
    )
    receive(store, ct_series(n_slices=2, seed="trial"), calling_ae_title="TRIAL")
    receive(store, ct_series(n_slices=2, seed="clinic"), calling_ae_title="CLINIC")
    complete(store, rules=rules)
    (job,) = store.jobs.list()
    assert job.series_instance_uid == ct_series(n_slices=2, seed="trial").series_instance_uid


def test_a_series_that_cannot_be_read_gets_a_job_that_will_say_so_and_holds_nobody_up(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = ct_series(n_slices=2, seed="broken"), ct_series(n_slices=2, seed="whole")
    receive(store, broken)
    receive(store, whole, at=NOON + timedelta(seconds=1))
    digest = store.series.instances(broken.series_instance_uid)[0].digest
    (path,) = [path for path in store.objects.folder.rglob("*") if digest in path.name]
    path.unlink()
    assert complete(store, now=LATER + timedelta(seconds=1)) == 2
    assert "series not readable" in caplog.text
    assert {job.series_instance_uid for job in store.jobs.list()} == {
        broken.series_instance_uid,
        whole.series_instance_uid,
    }


def test_a_series_that_lacks_slices_waits_for_them_and_says_so_when_it_waits_no_longer(store: Store) -> None:
    series = ct_series(n_slices=9)
    receive(store, [*series[:4], *series[5:]])

    def complete_patiently(seconds: float) -> int:
        now = NOON + timedelta(seconds=seconds)
        return complete_quiet(store, DEFAULT, pipeline_digest=DIGEST, quiet_s=QUIET_S, max_wait_s=300, now=now)

    assert complete_patiently(31) == 0
    waits = store.series.get(series.series_instance_uid)
    assert waits.waits_because == "1 slice seems to be missing, between -691.00 and -685.00 mm"
    assert complete_patiently(299) == 0
    assert complete_patiently(300) == 1
    row = store.series.get(series.series_instance_uid)
    assert row.is_doubted
    assert row.waits_because is None
    assert str(row.complete_because).startswith("no instance for 300 s, although 1 slice seems to be missing, between")
    (job,) = store.jobs.list()
    assert "1 slice seems to be missing" in store.jobs.events(job.id)[0].detail


def test_a_series_that_waits_goes_on_as_soon_as_the_slice_is_there(store: Store) -> None:
    series = ct_series(n_slices=9)
    receive(store, [*series[:4], *series[5:]])
    receive(store, [series[4]], at=NOON + timedelta(seconds=100))

    def complete_patiently(seconds: float) -> int:
        now = NOON + timedelta(seconds=seconds)
        return complete_quiet(store, DEFAULT, pipeline_digest=DIGEST, quiet_s=QUIET_S, max_wait_s=300, now=now)

    assert complete_patiently(129) == 0
    assert complete_patiently(130) == 1
    row = store.series.get(series.series_instance_uid)
    assert (row.generation, row.is_doubted, row.n_instances) == (1, False, 9)


def test_a_series_that_a_person_calls_complete_is_closed_at_once(store: Store) -> None:
    series = ct_series(n_slices=9)
    receive(store, [*series[:4], *series[5:]])
    assert complete(store, now=NOON) == 0
    assert store.series.force(series.series_instance_uid, NOON)
    assert complete(store, now=NOON) == 1
    row = store.series.get(series.series_instance_uid)
    assert str(row.complete_because).startswith("completed by hand although 1 slice seems to be missing")


def test_series_that_wait_stand_in_nobodys_way(store: Store) -> None:
    for number in range(101):
        series = ct_series(n_slices=5, rows=4, columns=4, seed=f"waits-{number}")
        receive(store, [*series[:2], *series[3:]])
    whole = ct_series(n_slices=2, seed="whole")
    receive(store, whole, at=NOON + timedelta(seconds=1))
    now = LATER + timedelta(seconds=1)
    assert complete_quiet(store, DEFAULT, pipeline_digest=DIGEST, quiet_s=QUIET_S, max_wait_s=300, now=now) == 1
    assert store.series.get(whole.series_instance_uid).state is SeriesState.COMPLETE


def test_a_study_that_was_closed_by_a_process_that_died_is_judged_later(store: Store) -> None:
    series = ct_series(n_slices=2)
    receive(store, series)
    (row,) = store.series.list()
    judge_due_studies(store, DEFAULT, pipeline_digest=DIGEST, now=LATER)
    assert store.studies.get(series.study_instance_uid).state is StudyState.OPEN  # still receiving
    store.closing.complete(row, closing(Skip("no-rule: no rule takes it")), LATER)
    assert store.studies.get(series.study_instance_uid).state is StudyState.OPEN
    judge_due_studies(store, DEFAULT, pipeline_digest=DIGEST, now=LATER)
    assert store.studies.get(series.study_instance_uid).state is StudyState.REVIEW


def test_a_series_that_starts_over_is_completed_for_the_pipeline_of_now(store: Store) -> None:
    series = ct_series(n_slices=2)
    receive(store, series)
    complete(store)
    assert store.closing.reopen(series.series_instance_uid, LATER)
    assert not store.closing.reopen(series.series_instance_uid, LATER)
    complete(store, digest="e" * 64)
    later, earlier = store.jobs.list()
    assert (earlier.state, earlier.pipeline_digest) == (JobState.SUPERSEDED, DIGEST)
    assert (later.state, later.pipeline_digest, later.generation) == (JobState.QUEUED, "e" * 64, 2)


def test_every_study_that_is_due_is_judged_however_many_came_after_it(store: Store) -> None:
    early = ct_series(n_slices=1, seed="early")
    receive(store, early)
    (row,) = store.series.list()
    store.closing.complete(row, closing(Skip("no-rule: no rule takes it")), LATER)
    for index in range(101):  # still receiving, and newer
        receive(store, ct_series(n_slices=1, rows=4, columns=4, seed=f"late-{index}"), at=LATER)
    judge_due_studies(store, DEFAULT, pipeline_digest=DIGEST, now=LATER)
    assert store.studies.get(early.study_instance_uid).state is StudyState.REVIEW
    assert len(store.studies.list(state=StudyState.OPEN, limit=1000)) == 101


def test_a_tick_judges_no_more_studies_than_it_may(store: Store) -> None:
    for index in range(3):
        receive(store, ct_series(n_slices=1, rows=4, columns=4, seed=f"study-{index}"))
    for row in store.series.list():
        store.closing.complete(row, closing(Skip("no-rule: no rule takes it")), LATER)
    judge_due_studies(store, DEFAULT, pipeline_digest=DIGEST, now=LATER, at_most=2)
    assert len(store.studies.list(state=StudyState.OPEN)) == 1

"""Jobs: claimed once, leased, retried, and ended with all that they leave behind or nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread

from dicom_node.store import (
    IllegalTransitionError,
    JobRow,
    JobState,
    LeaseLostError,
    NewResult,
    NotFoundError,
    Origin,
    Outcome,
    ResultConflictError,
    SeriesEvidence,
    SeriesState,
    Skip,
    Store,
    StudyEvidence,
    StudyJudgement,
    StudyState,
)
from dicom_node.store.schema import jobs
from tests.new_store import StoreMaker
from tests.store.crashing import outcome
from tests.store.sending import ROUTE, SERIES, STUDY, T0, closing, instance, keep, received_series

LEASE_S = 60.0


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def queue(store: Store, series: str = SERIES, study: str = STUDY) -> JobRow:
    row = received_series(store, n_instances=2, series=series, study=study)
    assert store.closing.complete(row, closing(because="head CT"), T0)
    (job,) = store.jobs.list(series_instance_uid=series)
    return job


def claim(store: Store, owner: str = "w1", seconds: float = 0) -> JobRow:
    job = store.jobs.claim(owner, at(seconds), LEASE_S, pipeline_digest="d1")
    assert job is not None
    return job


def fail(store: Store, job: JobRow, owner: str = "w1", *, retry_at: datetime | None = None) -> JobState:
    return store.jobs.fail(
        job.id, owner, code="slice-gap", message="a gap", detail="trace", retry_at=retry_at, now=at(5)
    )


def test_a_completed_series_queues_its_job_with_what_it_needs(store: Store) -> None:
    job = queue(store)
    assert (job.state, job.attempt_number, job.generation, job.queued_at) == (JobState.QUEUED, 0, 1, T0)
    assert (job.study_instance_uid, job.route, job.pipeline_digest) == (STUDY, ROUTE, "d1")
    assert store.jobs.events(job.id)[0].detail == "rule everything; head CT"
    claimed = claim(store)
    assert claimed == replace(
        job, state=JobState.RUNNING, attempt_number=1, owner="w1", lease_expires_at=at(60), started_at=at(0)
    )
    assert store.jobs.claim("w2", at(1), LEASE_S, pipeline_digest="d1") is None


def test_jobs_are_claimed_by_age(store: Store) -> None:
    queued = [queue(store, "1.1"), queue(store, "1.2", "1.9"), queue(store, "1.3", "1.8")]
    assert [claim(store).id for _ in range(3)] == [job.id for job in queued]


def test_a_worker_gets_jobs_of_its_own_pipeline_only(store: Store) -> None:
    other, own = queue(store, "1.1"), queue(store, "1.2")
    with store._database.write() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.id == other.id).values(pipeline_digest="d2"))
    assert claim(store).id == own.id
    assert store.jobs.claim("w1", T0, LEASE_S, pipeline_digest="d1") is None
    assert [job.id for job in store.jobs.queued_for_others("d1")] == [other.id]
    assert store.jobs.unfinished_by_pipeline() == {"d2": 1}


def test_a_failed_job_waits_until_its_time_and_remembers_why(store: Store) -> None:
    job = queue(store)
    claim(store)
    assert fail(store, job, retry_at=at(100)) is JobState.WAITING
    waiting = store.jobs.get(job.id)
    assert (waiting.error_code, waiting.error_message, waiting.error_detail) == ("slice-gap", "a gap", "trace")
    assert (waiting.owner, waiting.lease_expires_at, waiting.retry_at) == (None, None, at(100))
    assert store.jobs.claim("w2", at(99), LEASE_S, pipeline_digest="d1") is None
    assert claim(store, "w2", 100).attempt_number == 2


def test_a_dead_job_is_listed_explained_and_restarted(store: Store) -> None:
    job = queue(store)
    claim(store)
    assert fail(store, job) is JobState.DEAD
    assert [dead.id for dead in store.jobs.list(states=[JobState.DEAD])] == [job.id]
    assert store.jobs.counts() == {JobState.DEAD: 1}
    assert store.jobs.claim("w1", at(1e6), LEASE_S, pipeline_digest="d1") is None
    retried = store.jobs.retry(job.id, at(10))
    assert (retried.state, retried.attempt_number, retried.ended_at) == (JobState.QUEUED, 0, None)
    claim(store)
    store.jobs.succeed(job.id, "w1", Outcome(), at(20))
    assert store.jobs.get(job.id).error_code is None
    events = store.jobs.events(job.id)
    assert [event.event for event in events] == ["queued", "claimed", "failed", "retried", "claimed", "succeeded"]
    assert [event.from_state for event in events[:3]] == [None, JobState.QUEUED, JobState.RUNNING]
    assert events[2].detail == "slice-gap: a gap"


def test_an_expired_lease_is_claimed_again_and_the_first_worker_can_report_nothing(store: Store) -> None:
    job = queue(store)
    claim(store, "w1")
    assert store.jobs.heartbeat(job.id, "w1", at(50), LEASE_S)
    assert store.jobs.expire_leases(at(109)) == 0
    assert store.jobs.expire_leases(at(111)) == 1
    assert claim(store, "w2", 112).attempt_number == 2
    assert not store.jobs.heartbeat(job.id, "w1", at(113), LEASE_S)
    with pytest.raises(LeaseLostError, match=f"job {job.id}: no longer held by w1"):
        store.jobs.succeed(job.id, "w1", outcome(3), at(114))
    with pytest.raises(LeaseLostError):
        fail(store, job, "w1")
    assert store.jobs.release(job.id, "w1", at(115)) is False
    assert store.jobs.get(job.id).owner == "w2"
    assert store.jobs.results(job.id) == store.deliveries.list() == ()


def test_a_job_that_kills_its_workers_ends_dead(store: Store) -> None:
    job = queue(store)
    for attempt in range(3):
        claim(store, "w1", attempt * 100)
        store.jobs.expire_leases(at(attempt * 100 + 61), max_attempts=3)
    dead = store.jobs.get(job.id)
    assert (dead.state, dead.error_code) == (JobState.DEAD, "worker-lost")
    assert dead.error_message == "no sign of life from w1 in attempt 3 of 3"


def test_a_released_attempt_does_not_count(store: Store) -> None:
    job = queue(store)
    claim(store)
    assert store.jobs.release(job.id, "w1", at(5))
    assert claim(store, "w2").attempt_number == 1


def test_a_cancelled_job_takes_its_worker_the_lease(store: Store) -> None:
    job = queue(store)
    claim(store)
    assert store.jobs.cancel(job.id, at(1)).state is JobState.CANCELLED
    assert not store.jobs.heartbeat(job.id, "w1", at(2), LEASE_S)
    with pytest.raises(IllegalTransitionError, match=f"job {job.id}: is cancelled, cannot become cancelled"):
        store.jobs.cancel(job.id, at(3))
    assert store.jobs.retry(job.id, at(4)).state is JobState.QUEUED


def test_a_running_or_finished_job_cannot_be_retried(store: Store) -> None:
    job = queue(store)
    claim(store)
    with pytest.raises(IllegalTransitionError, match="is running"):
        store.jobs.retry(job.id, at(1))
    store.jobs.succeed(job.id, "w1", Outcome(), at(2))
    with pytest.raises(IllegalTransitionError, match="from succeeded it can become nothing"):
        store.jobs.retry(job.id, at(3))
    with pytest.raises(NotFoundError, match="job 99: not in the index"):
        store.jobs.get(99)


def test_success_leaves_results_deliveries_verdicts_tags_and_the_study_state(store: Store) -> None:
    job = queue(store)
    claim(store)
    seen: list[tuple[SeriesEvidence, ...]] = []

    def decide(evidence: StudyEvidence) -> StudyJudgement:
        seen.append(evidence.series)
        return StudyJudgement(StudyState.BLOCKED, "by hand", "0" * 64)

    made = outcome(3)
    (result,) = store.jobs.succeed(job.id, "w1", made, at(30), decide_study=decide)
    assert (result.kind, result.stack_number, result.generation) == ("seg", 1, 1)
    assert store.objects.read_dataset_bytes(result.digest) == made.results[0].encoded_dataset
    with store.objects.open(result.digest) as file:
        assert dcmread(file).Modality == "SEG"
    assert [delivery.peer for delivery in store.deliveries.list(job_id=job.id)] == ["archive", "pacs"]
    (verdict,) = store.studies.verdicts(STUDY)
    assert (verdict.verdict, verdict.probability, verdict.reasons) == ("face_present", 0.9, ("face found",))
    assert [(tag.name, tag.value) for tag in store.studies.tags(STUDY)] == [("face", "present")]
    (evidence,) = seen[0]
    assert evidence == SeriesEvidence(
        SERIES,
        "CT",
        SeriesState.COMPLETE,
        None,
        (JobState.SUCCEEDED,),
        ("face_present",),
        frozenset({"several-stacks"}),
        pipeline_digests=frozenset({"d1"}),
    )
    assert store.studies.get(STUDY).state is StudyState.BLOCKED
    (row,) = store.series.instances(result_series := "1.2.3.900")
    assert (row.origin, row.digest) == (Origin.NODE, result.digest)
    assert store.series.get(result_series).origin is Origin.NODE
    assert all(series.origin is Origin.RECEIVED for series in store.series.quiet(at(1e6), 1.0))


def test_a_second_report_of_success_changes_nothing(store: Store) -> None:
    job = queue(store)
    claim(store)
    first = store.jobs.succeed(job.id, "w1", outcome(3), at(30))
    with pytest.raises(LeaseLostError):
        store.jobs.succeed(job.id, "w1", outcome(3), at(31))
    assert store.jobs.results(job.id) == first
    assert len(store.deliveries.list()) == 2


def test_a_result_that_came_back_from_a_peer_before_is_no_obstacle(store: Store) -> None:
    job = queue(store)
    claim(store)
    keep(store, instance(1, study="1.2.3", series="1.2.3.900", Modality="SEG"))
    (result,) = store.jobs.succeed(job.id, "w1", outcome(3), at(30))
    assert result.sop_instance_uid == "1.2.3.900.1"


def test_a_result_under_a_uid_with_other_bytes_ends_nothing_and_leaves_nothing(store: Store) -> None:
    job = queue(store)
    claim(store)
    keep(store, instance(1, study="1.2.3", series="1.2.3.900", Modality="SEG", PatientID="coerced"))
    second = instance(2, study="1.2.3", series="1.2.3.900", Modality="SEG")
    free = NewResult("sr", 1, second.arrival.sop_class_uid, second.uid, "1.2.840.10008.1.2.1", second.encoded)
    made = outcome(3)
    with pytest.raises(ResultConflictError, match="is stored under that UID"):
        store.jobs.succeed(job.id, "w1", replace(made, results=(free, *made.results)), at(30))
    assert store.jobs.get(job.id).state is JobState.RUNNING
    assert store.jobs.results(job.id) == store.deliveries.list() == store.studies.verdicts(STUDY) == ()
    assert store.search.find_instances(sop_instance_uid=second.uid) == ()


def test_a_late_instance_supersedes_the_job_and_opens_the_next_generation(store: Store) -> None:
    job = queue(store)
    claim(store)
    keep(store, instance(3).at(at(20)))
    assert store.jobs.get(job.id).state is JobState.SUPERSEDED
    assert not store.jobs.heartbeat(job.id, "w1", at(21), LEASE_S)
    with pytest.raises(LeaseLostError):
        store.jobs.succeed(job.id, "w1", outcome(3), at(22))
    series = store.series.get(SERIES)
    assert (series.state, series.generation, series.n_instances) == (SeriesState.RECEIVING, 2, 3)
    assert store.studies.get(STUDY).state is StudyState.OPEN
    assert [row.instance_number for row in store.series.instances(SERIES, generation=1)] == [1, 2]
    assert store.closing.complete(series, closing(), at(60))
    assert claim(store, "w1", 61).generation == 2


def test_the_verdict_of_an_older_generation_is_no_evidence(store: Store) -> None:
    job = queue(store)
    claim(store)
    store.jobs.succeed(
        job.id, "w1", outcome(3), at(1), decide_study=lambda _: StudyJudgement(StudyState.CLEARED, "by hand", "0" * 64)
    )
    assert store.studies.get(STUDY).state is StudyState.CLEARED
    keep(store, instance(3).at(at(20)))
    assert store.studies.get(STUDY).state is StudyState.OPEN  # the gate closes with the arrival
    (evidence,) = store.studies.evidence(STUDY).series
    assert (evidence.state, evidence.job_states, evidence.verdicts) == (SeriesState.RECEIVING, (), ())


def test_a_skipped_series_says_why(store: Store) -> None:
    assert store.closing.complete(received_series(store), closing(Skip("localizer")), T0)
    series = store.series.get(SERIES)
    assert (series.state, series.skip_reason, store.jobs.list()) == (SeriesState.SKIPPED, "localizer", ())


CLAIM_ALL = """
import sys
from pathlib import Path
from datetime import datetime, UTC
from dicom_node.store import Store
with Store.open(Path(sys.argv[1]), url=sys.argv[3] or None) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    while (job := store.jobs.claim(sys.argv[2], datetime.now(UTC), 600, pipeline_digest="d1")) is not None:
        print(job.id, flush=True)
"""


def test_two_processes_that_claim_at_once_get_each_job_once(store: Store, new_store: StoreMaker) -> None:
    for number in range(40):
        row = received_series(store, n_instances=1, series=f"{SERIES}.{number}")
        store.closing.complete(row, closing(), T0)
    command = [sys.executable, "-c", CLAIM_ALL, str(store.data_dir)]
    url = new_store.url(store.data_dir) or ""
    root = Path(__file__).resolve().parents[2]
    workers = [
        subprocess.Popen([*command, name, url], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("w1", "w2")
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    outputs = [worker.communicate(timeout=120)[0] for worker in _told_to_go(workers)]
    claimed = [int(line) for output in outputs for line in output.split()]
    assert sorted(claimed) == sorted(job.id for job in store.jobs.list())
    for name, output in zip(("w1", "w2"), outputs, strict=True):
        assert {store.jobs.get(int(line)).owner for line in output.split()} <= {name}


def _told_to_go(workers: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return workers

"""One worker on a real store; only the networks and the clock are not the real thing."""

from __future__ import annotations

import io
import logging
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from pydicom import config, dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from dicom_node import processing
from dicom_node.errors import Transient
from dicom_node.logs import set_up_logging
from dicom_node.pipeline.intake import start_over_jobs
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.pipeline.rules import Rules, load_rules
from dicom_node.pipeline.worker import Worker, WorkerSettings
from dicom_node.settings import LogSettings
from dicom_node.store import JobState, Origin, SeriesState, Store, StudyState
from inference.verdict.verdict import SeriesVerdict
from tests.arrivals import NOON, complete_quiet, dataset_bytes, receive, receive_bytes
from tests.factories import SyntheticSeries, ct_series, drop_slice
from tests.mosaics import oblique_series, siemens_mosaic
from tests.threshold import threshold

DIGEST = "d" * 64
RULES = load_rules(None, peer_names=())
SKIP_ALL = Rules.model_validate({"series": [{"name": "nothing", "action": "skip", "reason": "not wanted"}]})


class StubbornClock:
    """A clock that goes forward when it is told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> StubbornClock:
    return StubbornClock()


@pytest.fixture(autouse=True)
def _no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing, "segment", threshold)


@pytest.fixture
def series() -> SyntheticSeries:
    return ct_series(n_slices=6, rows=24, columns=20)


def queue(store: Store, clock: StubbornClock, instances: object, *, rules: Rules = RULES, digest: str = DIGEST) -> None:
    """Receive a series and queue its job."""
    receive(store, instances, at=clock.now)
    clock.pass_by(60)
    assert complete_quiet(store, rules, pipeline_digest=digest, quiet_s=30, now=clock.now) == 1


def worker(
    store: Store, clock: StubbornClock, *, owner: str = "w1", process: object = None, **options: object
) -> Worker:
    settings = WorkerSettings(
        owner=owner,
        pipeline_digest=DIGEST,
        study_rules=RULES.study,
        retry=RetryPolicy(max_attempts=3, backoff_s=10.0),
        lease_s=30.0,
    )
    return Worker(
        store,
        process or partial(processing.process_series, models=None),
        replace(settings, **options),
        clock=clock,
    )


def work(one: Worker) -> bool:
    return one.work_once(threading.Event())


def test_a_job_leaves_results_deliveries_verdict_tag_and_study_state(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)
    assert work(worker(store, clock))
    assert not work(worker(store, clock))
    (job,) = store.jobs.list()
    assert job.state is JobState.SUCCEEDED
    results = store.jobs.results(job.id)
    assert [result.kind for result in results] == ["seg", "sr"]
    deliveries = sorted(store.deliveries.list(), key=lambda delivery: delivery.id)
    assert [(delivery.peer, delivery.state, delivery.result_id) for delivery in deliveries] == [
        ("pacs", JobState.QUEUED, result.id) for result in results
    ]
    (verdict,) = store.studies.verdicts(series.study_instance_uid)
    assert (verdict.verdict, verdict.probability) == ("defaced", 0.9)
    assert verdict.report["series_instance_uid"] == series.series_instance_uid
    tags = {tag.name: tag.value for tag in store.studies.tags(series.study_instance_uid)}
    assert tags == {"verdict": "defaced"}
    assert store.studies.get(series.study_instance_uid).state is StudyState.CLEARED


def test_a_worker_says_what_it_does_until_it_does_nothing(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)
    told: list[object] = []
    assert work(worker(store, clock, report=told.append))
    (job,) = store.jobs.list()
    said = [("none", None) if task is None else (task.stage, task.share) for task in told]
    stages = ["starting", "reading", "segment foreground"]
    assert said == [*((stage, None) for stage in stages), (stages[-1], 0.5), ("writing", None), ("none", None)]
    assert {task.job_id for task in told if task is not None} == {job.id}


def test_one_mosaic_is_a_whole_series_and_its_seg_names_it(store: Store, clock: StubbornClock) -> None:
    slices = oblique_series()
    mosaic = siemens_mosaic(slices)
    queue(store, clock, [mosaic])
    assert work(worker(store, clock))
    (job,) = store.jobs.list()
    assert (job.state, job.error_code) == (JobState.SUCCEEDED, None)
    segmentation, _report = store.jobs.results(job.id)
    with store.objects.open(segmentation.digest) as stream:
        ds = dcmread(stream)
    assert (ds.NumberOfFrames, ds.Rows, ds.Columns) == slices.voxels.shape
    (reference,) = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert reference.ReferencedSOPInstanceUID == mosaic.dataset().SOPInstanceUID
    assert store.studies.get(slices.study_instance_uid).state is StudyState.CLEARED


def test_a_mosaic_without_its_private_attributes_waits_for_a_person(store: Store, clock: StubbornClock) -> None:
    queue(store, clock, [siemens_mosaic(oblique_series(), edit=lambda ds: ds.remove_private_tags())])
    assert work(worker(store, clock))
    (job,) = store.jobs.list()
    assert (job.state, job.error_code) == (JobState.DEAD, "mosaic")
    assert "CSA header (0029,1010)" in str(job.error_message)
    assert store.studies.get(oblique_series().study_instance_uid).state is StudyState.REVIEW


def test_what_a_job_writes_is_never_its_input(store: Store, clock: StubbornClock, series: SyntheticSeries) -> None:
    queue(store, clock, series)
    work(worker(store, clock))
    clock.pass_by(3600)
    assert complete_quiet(store, RULES, pipeline_digest=DIGEST, quiet_s=30, now=clock.now) == 0
    assert len(store.jobs.list()) == 1


def test_the_same_job_writes_the_same_bytes_however_late_it_is_done(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)
    written: list[bytes] = []

    def process_and_stop(*args: object, **options: object) -> object:
        volumes = processing.process_series(*args, models=None, **options)
        written.extend(one.encoded_dataset for volume in volumes for one in volume.objects)
        raise Transient("power cut")

    for _ in range(2):
        work(worker(store, clock, process=process_and_stop))
        clock.pass_by(10_000)
    segmentation, report, *again = written
    assert again == [segmentation, report]


def test_a_face_blocks_the_study(
    store: Store, clock: StubbornClock, series: SyntheticSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "segment", partial(threshold, verdict=SeriesVerdict.FACE_PRESENT))
    queue(store, clock, series)
    work(worker(store, clock))
    assert store.studies.get(series.study_instance_uid).state is StudyState.BLOCKED


def test_a_refused_series_is_dead_at_once_with_its_code_and_reason(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, drop_slice(series, slice_number=3))
    work(worker(store, clock))
    (job,) = store.jobs.list()
    assert job.state is JobState.DEAD
    assert job.error_code == "slice-gap"
    assert series.series_instance_uid in str(job.error_message)
    assert job.error_detail is None
    assert store.studies.get(series.study_instance_uid).state is StudyState.REVIEW
    assert store.deliveries.list() == ()


def test_a_transient_error_is_tried_again_later_and_a_bounded_number_of_times(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)

    def out_of_memory(*_args: object, **_options: object) -> object:
        raise MemoryError

    one = worker(store, clock, process=out_of_memory)
    assert work(one)
    (job,) = store.jobs.list()
    assert (job.state, job.error_code) == (JobState.WAITING, "out-of-memory")
    assert job.retry_at == clock.now + timedelta(seconds=10)
    assert not work(one)  # not yet
    for wait_s in (10, 20):
        clock.pass_by(wait_s)
        assert work(one)
    assert store.jobs.get(job.id).state is JobState.DEAD
    clock.pass_by(10_000)
    assert not work(one)


def test_a_defect_is_tried_once_more_and_leaves_its_traceback_but_not_its_message(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)
    said = io.StringIO()
    set_up_logging(LogSettings(), process_name="work", stream=said)

    def defect(*_args: object, **_options: object) -> object:
        name = "Doe^" + "Jane"  # not in one piece on a line that a traceback shows
        raise KeyError(name)

    one = worker(store, clock, process=defect)
    work(one)
    clock.pass_by(10)
    work(one)
    (job,) = store.jobs.list()
    assert (job.state, job.error_code, job.attempt_number) == (JobState.DEAD, "internal", 2)
    assert "Doe" not in str(job.error_message)
    assert "in defect" in str(job.error_detail)
    assert "KeyError" in said.getvalue()
    assert "Doe" not in f"{job.error_detail}{said.getvalue()}"


def test_a_worker_that_lost_its_lease_leaves_nothing(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)

    def sleep_through_the_lease(*args: object, **options: object) -> object:
        clock.pass_by(31)
        assert store.jobs.expire_leases(clock.now) == 1
        assert work(worker(store, clock, owner="w2"))
        return processing.process_series(*args, models=None, **options)

    assert work(worker(store, clock, process=sleep_through_the_lease))
    (job,) = store.jobs.list()
    assert job.state is JobState.SUCCEEDED
    assert [event.owner for event in store.jobs.events(job.id) if event.event == "succeeded"] == ["w2"]
    assert len(store.jobs.results(job.id)) == 2  # SEG and SR
    assert len(store.deliveries.list()) == 2


def test_a_late_instance_takes_the_job_away_from_its_worker(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series[:5])

    def one_more_arrives(*args: object, **options: object) -> object:
        receive(store, series[5:], at=clock.now)
        return processing.process_series(*args, models=None, **options)

    work(worker(store, clock, process=one_more_arrives))
    (job,) = store.jobs.list()
    assert job.state is JobState.SUPERSEDED
    assert store.deliveries.list() == ()
    assert not [row for row in _study(store, series) if row.origin is Origin.NODE]


def test_a_worker_that_is_told_to_stop_gives_its_job_back_and_the_attempt_does_not_count(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)
    stopping = threading.Event()

    def stop_meanwhile(*args: object, **options: object) -> object:
        stopping.set()
        return processing.process_series(*args, models=None, **options)

    worker(store, clock, process=stop_meanwhile).work_once(stopping)
    (job,) = store.jobs.list()
    assert (job.state, job.attempt_number) == (JobState.QUEUED, 0)
    assert work(worker(store, clock))
    assert store.jobs.get(job.id).state is JobState.SUCCEEDED


def test_a_job_can_be_given_back_from_the_middle_of_a_network(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)

    def give_back_meanwhile(*args: object, **options: object) -> object:
        one.give_back()
        return processing.process_series(*args, models=None, **options)

    one = worker(store, clock, process=give_back_meanwhile)
    work(one)
    (job,) = store.jobs.list()
    assert (job.state, job.attempt_number) == (JobState.QUEUED, 0)
    assert store.deliveries.list() == ()


def test_late_slices_make_results_that_replace_the_earlier_ones(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series[:5])
    work(worker(store, clock))
    (first_job,) = store.jobs.list()
    first, first_report = store.jobs.results(first_job.id)
    queue(store, clock, series[5:])
    work(worker(store, clock))
    second_job = store.jobs.list()[0]
    second, second_report = store.jobs.results(second_job.id)

    with store.objects.open(second.digest) as stream:
        written = dcmread(stream, stop_before_pixels=True)
    (replaced,) = written.ReferencedImageSequence
    assert replaced.ReferencedSOPInstanceUID == first.sop_instance_uid
    assert replaced.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Replaced result"
    assert written.ReferencedSeriesSequence[1].SeriesInstanceUID == first.result_series_instance_uid
    with store.objects.open(second_report.digest) as stream:
        document = dcmread(stream)
    (earlier,) = document.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in earlier.ReferencedSOPSequence] == [first_report.sop_instance_uid]
    assert document.SeriesDescription.endswith("(replaces earlier)")
    states = [delivery.state for delivery in store.deliveries.list()]
    assert states == [JobState.QUEUED] * 2 + [JobState.SUPERSEDED] * 2
    for modality, result in (("SEG", second), ("SR", second_report)):
        found = store.search.search_series({"Modality": modality})
        assert [one["0020000E"]["Value"][0] for one in found] == [result.result_series_instance_uid]


def test_a_retry_of_a_later_generation_writes_the_same_bytes(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series[:5])
    work(worker(store, clock))
    queue(store, clock, series[5:])
    written: list[bytes] = []

    def process_and_stop(*args: object, **options: object) -> object:
        volumes = processing.process_series(*args, models=None, **options)
        written.extend(one.encoded_dataset for volume in volumes for one in volume.objects)
        raise Transient("power cut")

    for _ in range(2):
        work(worker(store, clock, process=process_and_stop))
        clock.pass_by(10_000)
    segmentation, report, *again = written
    assert again == [segmentation, report]
    assert b"REPLACED-RESULT" in segmentation


def comments_of(report: Dataset) -> list[str]:
    """The sentences in the last measurement group of an SR."""
    group = report.ContentSequence[-1].ContentSequence[-1]
    return [str(item.TextValue) for item in group.ContentSequence if item.ValueType == "TEXT"]


def test_the_report_says_why_the_series_counted_as_complete_and_what_spoke_against_it(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series.edited(lambda ds, _: setattr(ds, "NumberOfSeriesRelatedInstances", 8)))
    work(worker(store, clock))
    (verdict,) = store.studies.verdicts(series.study_instance_uid)
    said = "no instance for 60 s, although its instances say that it has 8, 6 are here"
    assert verdict.report["complete_because"] == said
    assert {"code": "completeness-doubted", "text": said} in verdict.report["remarks"]
    (job,) = store.jobs.list()
    with store.objects.open(store.jobs.results(job.id)[1].digest) as stream:
        assert said in comments_of(dcmread(stream))
    assert store.studies.get(series.study_instance_uid).state is StudyState.REVIEW


def test_a_job_of_another_pipeline_is_not_done_under_its_name(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series, digest="old" * 20)
    assert not work(worker(store, clock))
    assert start_over_jobs(store, pipeline_digest=DIGEST, now=clock.now) == 1
    assert start_over_jobs(store, pipeline_digest=DIGEST, now=clock.now) == 0
    assert complete_quiet(store, RULES, pipeline_digest=DIGEST, quiet_s=30, now=clock.now) == 1
    assert work(worker(store, clock))
    later, earlier = store.jobs.list()
    assert earlier.state is JobState.SUPERSEDED
    assert (later.state, later.pipeline_digest) == (JobState.SUCCEEDED, DIGEST)


def test_a_rule_can_send_results_elsewhere(store: Store, clock: StubbornClock, series: SyntheticSeries) -> None:
    rules = Rules.model_validate({"series": [{"name": "all", "action": "process", "deliver_to": ["a", "b"]}]})
    queue(store, clock, series, rules=rules)
    work(worker(store, clock))
    (job,) = store.jobs.list()
    wanted = {(peer, result.id) for peer in ("a", "b") for result in store.jobs.results(job.id)}
    assert len(wanted) == 4
    assert {(delivery.peer, delivery.result_id) for delivery in store.deliveries.list()} == wanted


def test_a_peer_gets_only_the_kinds_of_results_that_it_takes(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    rules = Rules.model_validate({"series": [{"name": "all", "action": "process", "deliver_to": ["old", "new"]}]})
    queue(store, clock, series, rules=rules)
    work(worker(store, clock, kinds_by_peer={"old": frozenset({"seg"})}))
    sent = {(delivery.peer, delivery.sop_class_uid) for delivery in store.deliveries.list()}
    assert sent == {
        ("old", SegmentationStorage),
        ("new", SegmentationStorage),
        ("new", ComprehensiveSRStorage),
    }


def test_a_long_accession_number_is_the_same_in_queries_seg_and_sr_and_is_remarked_on(
    store: Store, clock: StubbornClock
) -> None:
    number = "RIS-2026-0123456789-A"  # 21 characters, SH has 16

    def numbered(ds: Dataset, _index: int) -> None:
        ds[0x00080050] = DataElement(0x00080050, "SH", number, validation_mode=config.IGNORE)

    series = ct_series(n_slices=6, rows=24, columns=20, edit=numbered)
    queue(store, clock, series)
    work(worker(store, clock))
    (study,) = store.search.search_studies({"AccessionNumber": number})
    assert study["00080050"]["Value"] == [number]
    (job,) = store.jobs.list()
    for result in store.jobs.results(job.id):
        with store.objects.open(result.digest) as stream:
            ds = dcmread(stream)
        assert ds.get_item("AccessionNumber").value.rstrip() == number.encode()
    sentence = "Accession Number of the source is not valid as SH; in SEG and SR it is kept as received"
    (verdict,) = store.studies.verdicts(series.study_instance_uid)
    assert {"code": "identity-not-valid", "text": sentence} in verdict.report["remarks"]
    assert sentence in comments_of(ds)
    assert store.studies.get(series.study_instance_uid).state is StudyState.CLEARED


def test_a_series_of_which_an_object_is_lost_is_refused_by_name(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)
    store.objects.path(store.series.instances(series.series_instance_uid)[2].digest).unlink()
    work(worker(store, clock))
    (job,) = store.jobs.list()
    assert (job.state, job.error_code) == (JobState.DEAD, "object-missing")


def test_a_series_of_which_an_object_was_cut_short_is_refused_by_name(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series)
    path = store.objects.path(store.series.instances(series.series_instance_uid)[2].digest)
    path.write_bytes(path.read_bytes()[:-2])  # of the padding: the header and nearly all pixels are there
    work(worker(store, clock))
    (job,) = store.jobs.list()
    assert (job.state, job.error_code) == (JobState.DEAD, "object-damaged")


def test_the_log_tells_the_story_without_patient_data(
    store: Store, clock: StubbornClock, series: SyntheticSeries, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    queue(store, clock, series)
    work(worker(store, clock))
    ds = series[0].dataset()
    said = "\n".join(str(vars(record)) for record in caplog.records)
    assert "job succeeded" in said
    assert series.series_instance_uid in said
    assert str(ds.PatientName) not in said
    assert str(ds.PatientID) not in said


def _study(store: Store, series: SyntheticSeries) -> tuple[object, ...]:
    return store.search.find_instances(study_instance_uid=series.study_instance_uid)


def test_late_slices_of_a_series_that_was_deleted_replace_nothing_until_all_of_it_is_sent_again(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    late, whole = series[4:], series[:4]
    queue(store, clock, whole)
    work(worker(store, clock))
    (first_job,) = store.jobs.list()
    first = store.jobs.results(first_job.id)
    for delivery in store.deliveries.claim_due("w1", clock.now, 60):
        store.deliveries.succeed(delivery.id, "w1", clock.now)
    clock.pass_by(60)
    assert store.retention.delete_sources(store.series.get(series.series_instance_uid), clock.now)

    queue(store, clock, late, rules=SKIP_ALL)  # the few that came late may meet other rules than the whole
    work(worker(store, clock))
    refused = store.jobs.list()[0]
    assert (refused.generation, refused.state, refused.error_code) == (2, JobState.DEAD, "sources-deleted")
    said = "2 instances came after 4 were processed and deleted; the earlier results stay, send the whole series again"
    assert said in str(refused.error_message)
    assert store.jobs.results(first_job.id) == first  # still current
    assert store.studies.list()[0].state is StudyState.REVIEW

    queue(store, clock, whole)
    work(worker(store, clock))
    done = store.jobs.list()[0]
    assert (done.generation, done.state) == (3, JobState.SUCCEEDED)
    assert {row.superseded_by_job_id for row in store.jobs.results(first_job.id)} == {done.id}


def test_a_series_that_was_skipped_and_deleted_is_skipped_again(
    store: Store, clock: StubbornClock, series: SyntheticSeries
) -> None:
    queue(store, clock, series[:4], rules=SKIP_ALL)
    clock.pass_by(60)
    assert store.retention.delete_sources(store.series.get(series.series_instance_uid), clock.now)
    queue(store, clock, series[4:], rules=SKIP_ALL)
    assert store.series.get(series.series_instance_uid).state is SeriesState.SKIPPED


def test_a_header_nested_beyond_sense_is_refused_by_name_and_no_defect(
    store: Store, clock: StubbornClock, series: SyntheticSeries, caplog: pytest.LogCaptureFixture
) -> None:
    """pydicom unfolds sequences by calling itself, so that a hostile header looked like a defect of ours."""
    opened = b"\x41\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    middle = series[3]
    at = middle.part10.index(b"\xe0\x7f\x10\x00OW")
    receive(store, [*series[:3], *series[4:]], at=clock.now)
    spoiled = dataset_bytes(middle.part10[:at] + 500 * opened + 500 * closed + middle.part10[at:])
    receive_bytes(store, spoiled, middle.dataset(), at=clock.now)
    clock.pass_by(60)
    assert complete_quiet(store, RULES, pipeline_digest=DIGEST, quiet_s=30, now=clock.now) == 1
    assert worker(store, clock).work_once(threading.Event())
    (job,) = store.jobs.list()
    assert (job.state, job.error_code) == (JobState.DEAD, "nested-too-deeply")
    assert not [record for record in caplog.records if record.exc_info]

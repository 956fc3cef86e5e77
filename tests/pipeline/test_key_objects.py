"""The document that says that a study may leave: written, withdrawn, restored, and what it lists."""

from __future__ import annotations

from functools import partial

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node import processing
from dicom_node.gate.decisions import decide
from dicom_node.gate.documents import Terms, study_document
from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import gate_digest
from dicom_node.pipeline import key_objects
from dicom_node.pipeline.key_objects import KeyObjectPolicy, settle_key_objects
from dicom_node.store import DecisionKind, JobState, Skip, Store, StudyState
from inference.verdict.verdict import SeriesVerdict
from sr_writer.encoding import encode_dataset
from tests.arrivals import complete_quiet, receive, receive_bytes
from tests.factories import SyntheticSeries, ct_series
from tests.pipeline.test_worker import DIGEST, RULES, StubbornClock, queue, work, worker
from tests.store.sending import closing
from tests.threshold import threshold

POLICY = KeyObjectPolicy(RULES.study, DIGEST, ["pacs"])
KOS_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.fixture
def clock() -> StubbornClock:
    return StubbornClock()


@pytest.fixture
def series() -> SyntheticSeries:
    return ct_series(n_slices=6, rows=24, columns=20)


@pytest.fixture(autouse=True)
def _no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing, "segment", threshold)


@pytest.fixture
def cleared(store: Store, clock: StubbornClock, series: SyntheticSeries) -> SyntheticSeries:
    """A study that may leave, and has no document yet."""
    queue(store, clock, series)
    assert work(worker(store, clock))
    assert store.studies.get(series.study_instance_uid).state is StudyState.CLEARED
    return series


def settle(store: Store, clock: StubbornClock, policy: KeyObjectPolicy = POLICY) -> int:
    clock.pass_by(30)
    return settle_key_objects(store, policy, now=clock.now)


def documents(store: Store, series: SyntheticSeries) -> list[Dataset]:
    """The documents of a study that queries find."""
    found = []
    for row in store.search.search_instances({"StudyInstanceUID": series.study_instance_uid, "SOPClassUID": KOS_CLASS}):
        (stored,) = store.search.find_instances(sop_instance_uid=row["00080018"]["Value"][0])
        with store.objects.open(stored.digest) as file:
            found.append(dcmread(file))
    return found


def document_deliveries(store: Store) -> list[tuple[str, JobState]]:
    return [
        (delivery.peer, delivery.state) for delivery in store.deliveries.list() if delivery.sop_class_uid == KOS_CLASS
    ]


def named(store: Store, series: SyntheticSeries) -> str | None:
    """The document that ``studies show`` names."""
    shown = study_document(store, Terms(RULES.study, DIGEST), series.study_instance_uid)["key_object_document"]
    return None if shown is None else str(shown)


def say(store: Store, clock: StubbornClock, series: SyntheticSeries, kind: DecisionKind) -> None:
    clock.pass_by(1)
    decide(
        store,
        series.study_instance_uid,
        kind,
        reason="looked at it",
        decided_by="Ann Example",
        now=clock.now,
        gate_digest=gate_digest(RULES.study, DIGEST),
        rules=RULES.study,
    )


def test_a_cleared_study_gets_a_document_that_lists_what_may_go(
    store: Store, clock: StubbornClock, cleared: SyntheticSeries
) -> None:
    scout = ct_series(n_slices=1, seed="scout")
    (one,) = scout
    receive(
        store,
        [one.edited(lambda ds: setattr(ds, "StudyInstanceUID", cleared.study_instance_uid))],
        at=clock.now,
    )
    store.closing.complete(store.series.get(scout.series_instance_uid), closing(Skip("rule-scout: few")), clock.now)
    store.studies.decide(cleared.study_instance_uid, study_decision(RULES.study, DIGEST), clock.now)
    assert settle(store, clock) == 1
    (document,) = documents(store, cleared)
    (title,) = document.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("128713", "DCM")
    assert document.Modality == "KO"
    assert document.PatientID == cleared.datasets()[0].PatientID
    (job,) = store.jobs.list()
    segmentation, report = store.jobs.results(job.id)
    listed = [
        (item.ValueType, reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID)
        for item in document.ContentSequence
        if item.RelationshipType == "CONTAINS" and item.ValueType in ("IMAGE", "COMPOSITE")
        for reference in item.ReferencedSOPSequence
    ]
    sources = [("IMAGE", str(ds.SOPClassUID), str(ds.SOPInstanceUID)) for ds in cleared.datasets()]
    assert sorted(listed) == sorted(
        [
            *sources,
            ("IMAGE", SEG_CLASS, segmentation.sop_instance_uid),
            ("COMPOSITE", SR_CLASS, report.sop_instance_uid),
        ]
    )
    assert not any(
        "ConceptNameCodeSequence" in item
        for item in document.ContentSequence
        if item.ValueType != "TEXT" and item.RelationshipType == "CONTAINS"
    )
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    evidence = {
        item.ReferencedSOPInstanceUID
        for series_item in study.ReferencedSeriesSequence
        for item in series_item.ReferencedSOPSequence
    }
    assert evidence == {uid for _, _, uid in listed}


def test_it_is_written_once_and_sent_to_the_peers_that_take_it(
    store: Store, clock: StubbornClock, cleared: SyntheticSeries
) -> None:
    assert settle(store, clock, KeyObjectPolicy(RULES.study, DIGEST, ["pacs", "elsewhere"])) == 1
    assert document_deliveries(store) == [("pacs", JobState.QUEUED)]
    assert settle(store, clock) == 0
    assert store.key_objects.unsettled() == ()
    (delivery,) = [one for one in store.deliveries.list() if one.sop_class_uid == KOS_CLASS]
    assert delivery.job_id is None
    assert {one.sop_class_uid for one in store.deliveries.claim_due("s", clock.now, 60)} == {
        SEG_CLASS,
        SR_CLASS,
        KOS_CLASS,
    }


def test_many_studies_get_theirs_over_several_calls(
    store: Store, clock: StubbornClock, cleared: SyntheticSeries
) -> None:
    queue(store, clock, ct_series(n_slices=6, rows=24, columns=20, seed="second"))
    assert work(worker(store, clock))
    written = [settle_key_objects(store, POLICY, now=clock.now, at_most=1) for _ in range(3)]
    assert written == [1, 1, 0]


def test_no_peer_gets_it_unless_it_wants_it(store: Store, clock: StubbornClock, cleared: SyntheticSeries) -> None:
    assert settle(store, clock, KeyObjectPolicy(RULES.study, DIGEST, [])) == 1
    assert document_deliveries(store) == []
    assert len(documents(store, cleared)) == 1


@pytest.mark.parametrize("verdict", [SeriesVerdict.FACE_PRESENT, SeriesVerdict.INDETERMINATE])
def test_a_study_that_may_not_leave_has_none(
    store: Store, clock: StubbornClock, series: SyntheticSeries, monkeypatch: pytest.MonkeyPatch, verdict: SeriesVerdict
) -> None:
    monkeypatch.setattr(processing, "segment", partial(threshold, verdict=verdict))
    queue(store, clock, series)
    assert work(worker(store, clock))
    assert settle(store, clock) == 0
    assert documents(store, series) == []


def test_a_release_by_a_person_makes_one_that_does_not_name_the_person(
    store: Store, clock: StubbornClock, series: SyntheticSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "segment", partial(threshold, verdict=SeriesVerdict.INDETERMINATE))
    queue(store, clock, series)
    assert work(worker(store, clock))
    say(store, clock, series, DecisionKind.RELEASE)
    assert settle(store, clock) == 1
    (document,) = documents(store, series)
    (text,) = [item.TextValue for item in document.ContentSequence if item.ValueType == "TEXT"]
    assert text == "A person has released this study for research."
    say(store, clock, series, DecisionKind.HOLD)
    assert settle(store, clock) == 1
    assert documents(store, series) == []


def test_a_hold_withdraws_it_without_a_rejection_and_a_release_brings_the_same_one_back(
    store: Store, clock: StubbornClock, cleared: SyntheticSeries
) -> None:
    assert named(store, cleared) is None
    settle(store, clock)
    (before,) = documents(store, cleared)
    assert named(store, cleared) == before.SOPInstanceUID
    n_objects = len(list(store.objects.folder.rglob("*.dcm")))
    say(store, clock, cleared, DecisionKind.HOLD)
    assert settle(store, clock) == 1
    assert documents(store, cleared) == []
    assert named(store, cleared) is None
    assert document_deliveries(store) == [("pacs", JobState.CANCELLED)]
    assert settle(store, clock) == 0
    say(store, clock, cleared, DecisionKind.RELEASE)
    assert settle(store, clock) == 1
    (after,) = documents(store, cleared)
    assert after == before
    assert document_deliveries(store) == [("pacs", JobState.QUEUED)]
    assert len(list(store.objects.folder.rglob("*.dcm"))) == n_objects


def test_a_late_slice_withdraws_it_until_the_study_is_cleared_again(
    store: Store, clock: StubbornClock, cleared: SyntheticSeries
) -> None:
    settle(store, clock)
    (before,) = documents(store, cleared)
    more = ct_series(n_slices=7, rows=24, columns=20)
    queue(store, clock, more[6:])
    assert settle(store, clock) == 1
    assert documents(store, cleared) == []
    assert work(worker(store, clock))
    assert settle(store, clock) == 1
    (after,) = documents(store, cleared)
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.SeriesInstanceUID != before.SeriesInstanceUID


def test_a_document_that_comes_back_changed_by_a_pacs_makes_no_new_one(
    store: Store, clock: StubbornClock, cleared: SyntheticSeries
) -> None:
    """Else a PACS that sends everything on, with UIDs of its own, and the node would write documents for ever."""
    settle(store, clock)
    (document,) = documents(store, cleared)
    document.SOPInstanceUID, document.SeriesInstanceUID = "2.25.71", "2.25.72"
    document.InstitutionName = "added by the PACS"
    receive_bytes(store, encode_dataset(document), document, at=clock.now)
    clock.pass_by(60)
    complete_quiet(store, RULES, pipeline_digest=DIGEST, quiet_s=30, now=clock.now)
    assert store.series.get("2.25.72").skip_reason.startswith("own-result")
    store.studies.decide(cleared.study_instance_uid, study_decision(RULES.study, DIGEST), clock.now)
    assert store.studies.get(cleared.study_instance_uid).state is StudyState.CLEARED
    settle(store, clock)
    uids = {one.SOPInstanceUID for one in documents(store, cleared)} - {"2.25.71"}
    assert len(uids) == 1
    assert document_deliveries(store) == [("pacs", JobState.QUEUED)]
    assert store.key_objects.unsettled() == ()


def test_something_that_arrives_while_it_is_written_keeps_it_back(
    store: Store, clock: StubbornClock, cleared: SyntheticSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = key_objects.write_key_objects

    def and_one_more_arrives(*arguments: object, **options: object) -> object:
        receive(store, ct_series(n_slices=7, rows=24, columns=20)[6:], at=clock.now)
        return write(*arguments, **options)

    monkeypatch.setattr(key_objects, "write_key_objects", and_one_more_arrives)
    assert settle(store, clock) == 0
    assert documents(store, cleared) == []


def test_deleted_sources_leave_the_document_as_it_is(
    store: Store, clock: StubbornClock, cleared: SyntheticSeries
) -> None:
    settle(store, clock)
    (before,) = documents(store, cleared)
    for delivery in store.deliveries.claim_due("s", clock.now, 60):
        store.deliveries.succeed(delivery.id, "s", clock.now)
    assert store.retention.delete_sources(store.series.get(cleared.series_instance_uid), clock.now)
    store.studies.decide(cleared.study_instance_uid, study_decision(RULES.study, DIGEST), clock.now)
    settle(store, clock)
    assert documents(store, cleared) == [before]
    assert store.key_objects.unsettled() == ()

"""When a series is quiet, and what closes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from dicom_node.store import NotFoundError, SeriesState, Skip, Store, StudyJudgement, StudyState
from tests.store.sending import SERIES, STUDY, T0, closing, instance, keep, received_series


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_a_series_is_quiet_once_nothing_came_for_long_enough(store: Store) -> None:
    keep(store, instance(1).at(at(0)))
    keep(store, instance(2).at(at(10)))
    assert store.series.quiet(at(39.9), 30) == ()
    (series,) = store.series.quiet(at(40), 30)
    assert (series.n_instances, series.first_arrival_at, series.last_arrival_at) == (2, at(0), at(10))


def test_the_oldest_quiet_series_comes_first(store: Store) -> None:
    for seconds, series in ((5, "1.5"), (1, "1.1"), (3, "1.3")):
        keep(store, instance(1, series=series).at(at(seconds)))
    assert [row.series_instance_uid for row in store.series.quiet(at(99), 1)] == ["1.1", "1.3", "1.5"]
    assert len(store.series.quiet(at(99), 1, limit=2)) == 2


def test_quiet_series_come_in_pages(store: Store) -> None:
    for series in ("1.1", "1.2", "1.3"):  # two arrived at the same moment
        keep(store, instance(1, series=series).at(at(0 if series < "1.3" else 5)))
    page = store.series.quiet(at(99), 1, limit=2)
    assert [row.series_instance_uid for row in page] == ["1.1", "1.2"]
    rest = store.series.quiet(at(99), 1, limit=2, after=page[-1])
    assert [row.series_instance_uid for row in rest] == ["1.3"]


def test_a_series_that_a_person_calls_complete_need_not_be_quiet(store: Store) -> None:
    received_series(store)
    assert store.series.quiet(at(1), 30) == ()
    assert store.series.force(SERIES, at(1))
    (series,) = store.series.quiet(at(1), 30)
    assert series.forced_at == at(1)
    store.closing.complete(series, replace(closing(because="by hand"), is_doubted=True), at(2))
    closed = store.series.get(SERIES)
    assert (closed.forced_at, closed.complete_because, closed.is_doubted) == (None, "by hand", True)
    assert not store.series.force(SERIES, at(3))
    keep(store, instance(9).at(at(70)))
    opened = store.series.get(SERIES)
    assert (opened.complete_because, opened.is_doubted, opened.pipeline_digest) == (None, None, None)


def test_series_of_another_pipeline_are_outdated_whether_they_were_processed_or_skipped(store: Store) -> None:
    decisions = {"1.1": closing(), "1.2": closing(Skip("no rule")), "1.3": closing(digest="d2")}
    for number, (uid, decided) in enumerate(decisions.items()):
        keep(store, instance(1, series=uid).at(at(number)))
        store.closing.complete(store.series.get(uid), decided, at(60))
    keep(store, instance(1, series="1.4"))  # still receiving
    assert [row.series_instance_uid for row in store.series.outdated("d2")] == ["1.1", "1.2"]
    assert store.closing.reopen("1.1", at(70))
    assert [row.series_instance_uid for row in store.series.outdated("d2")] == ["1.2"]


def test_a_plan_made_before_the_last_instance_is_void(store: Store) -> None:
    series = received_series(store, n_instances=2)
    keep(store, instance(3))
    assert not store.closing.complete(series, closing(), at(60))
    assert store.jobs.list() == ()
    assert store.series.get(SERIES).state is SeriesState.RECEIVING


def test_a_series_is_closed_once(store: Store) -> None:
    series = received_series(store)
    assert store.closing.complete(series, closing(), at(60))
    assert not store.closing.complete(series, closing(), at(60))
    closed = store.series.get(SERIES)
    assert (closed.state, closed.completed_at, len(store.jobs.list())) == (SeriesState.COMPLETE, at(60), 1)
    assert store.series.quiet(at(1e6), 1) == ()
    assert store.series.counts() == {SeriesState.COMPLETE: 1}


def test_a_duplicate_does_not_open_a_closed_series(store: Store) -> None:
    series = received_series(store)
    store.closing.complete(series, closing(), at(60))
    keep(store, instance(1).at(at(70)))
    assert store.series.get(SERIES).state is SeriesState.COMPLETE
    assert store.series.get(SERIES).last_arrival_at == series.last_arrival_at


def test_a_late_instance_opens_a_skipped_series_again(store: Store) -> None:
    store.closing.complete(received_series(store), closing(Skip("too few instances")), at(60))
    keep(store, instance(9).at(at(70)))
    series = store.series.get(SERIES)
    assert (series.state, series.generation, series.skip_reason) == (SeriesState.RECEIVING, 2, None)


def test_an_instance_that_arrived_earlier_does_not_make_a_series_quiet_sooner(store: Store) -> None:
    keep(store, instance(1).at(at(10)))
    keep(store, instance(2).at(at(3)))  # overtaken on its way to the index
    assert store.series.get(SERIES).last_arrival_at == at(10)
    assert store.studies.get(STUDY).last_arrival_at == at(10)


def test_routing_sees_the_attributes_of_study_series_and_instance(store: Store) -> None:
    keep(store, instance(4, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], BodyPartExamined="HEAD"))
    (attributes,) = store.series.instance_attributes(SERIES)
    assert attributes["00080008"] == {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    assert attributes["00180015"]["Value"] == ["HEAD"]
    assert attributes["00200013"]["Value"] == [4]
    assert attributes["00100020"]["Value"] == ["P1"]
    assert store.series.association_ids(SERIES) == ("a1",)


def test_what_says_how_many_there_should_be_is_kept_and_not_taken_for_our_own_count(store: Store) -> None:
    keep(
        store,
        instance(
            1,
            NumberOfSeriesRelatedInstances=40,
            ImagesInAcquisition=20,
            ImagePositionPatient=["-1.5", "2E1", "3.25"],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ),
    )
    (attributes,) = store.series.instance_attributes(SERIES)
    assert attributes["00201209"]["Value"] == [40]
    assert attributes["00201002"]["Value"] == [20]
    assert attributes["00200032"] == {"vr": "DS", "Value": [-1.5, 20.0, 3.25]}
    (found,) = store.search.search_instances({"SeriesInstanceUID": SERIES})
    assert found["00201209"]["Value"] == [1]


def test_lists_filter_and_page(store: Store) -> None:
    received_series(store, n_instances=1, series="1.1", study="1.10")
    received_series(store, n_instances=1, series="1.2", study="1.10")
    received_series(store, n_instances=1, series="1.3", study="1.20")
    assert [row.series_instance_uid for row in store.series.list(study_instance_uid="1.10")] == ["1.1", "1.2"]
    assert [row.series_instance_uid for row in store.series.list(limit=1, offset=1)] == ["1.2"]
    assert len(store.studies.list(state=StudyState.OPEN)) == 2
    assert store.studies.list(state=StudyState.CLEARED) == ()


def test_a_tag_that_is_replaced_is_in_the_audit_trail_with_what_it_said_before(store: Store) -> None:
    received_series(store, n_instances=1)
    for value, by, seconds in (("first", "ann", 1), ("first", "ben", 2), ("second", "ben", 3)):
        store.studies.tag(STUDY, "note", value, set_by=by, now=at(seconds))
    (tag,) = store.studies.tags(STUDY)
    assert (tag.value, tag.set_by, tag.set_at, tag.series_instance_uid) == ("second", "ben", at(3), None)
    (entry,) = store.audit.list()
    assert (entry.action, entry.actor, entry.subject, entry.occurred_at) == ("tag-replaced", "ben", STUDY, at(3))
    assert entry.detail == {"name": "note", "before": "first", "before_set_by": "ben", "after": "second"}


def test_audit_rows_are_added(store: Store) -> None:
    store.audit.record("tag", actor="ann", subject=STUDY, now=at(1), detail={"name": "note"})
    store.audit.record("tag", actor="ben", subject=STUDY, now=at(2))
    assert [(row.actor, row.detail) for row in store.audit.list()] == [("ben", {}), ("ann", {"name": "note"})]


def test_a_study_is_decided_on_what_is_known_now(store: Store) -> None:
    received_series(store, n_instances=1)
    assert (
        store.studies.decide(
            STUDY,
            lambda evidence: StudyJudgement(
                StudyState.REVIEW if evidence.series else StudyState.OPEN, "by hand", "0" * 64
            ),
            at(90),
        )
        is StudyState.REVIEW
    )
    assert store.studies.get(STUDY).state is StudyState.REVIEW
    with pytest.raises(NotFoundError, match=r"study 1\.9: not in the index"):
        store.studies.get("1.9")

"""A person chooses between two contents of one instance; a correction gets through everywhere."""

from __future__ import annotations

import pytest

from dicom_node.store import (
    ConflictChoice,
    ConflictChoiceError,
    Kept,
    NotFoundError,
    SeriesState,
    Store,
    StudyState,
)
from tests.store.sending import SERIES, STUDY, T0, closing, instance, keep, received_series

RIGHT = {"PatientName": "Right^Name", "PatientID": "P2"}


def adopt(store: Store, *ids: int) -> tuple[str, ...]:
    return store.conflicts.adopt(ids, reason="corrected", decided_by="Ann", now=T0)


def conflicting(store: Store, number: int = 1, **attributes: object) -> int:
    assert keep(store, instance(number, **attributes)) is Kept.CONFLICT
    return store.series.conflicts(limit=1)[0].id


def test_an_adopted_correction_is_what_the_index_says_and_the_series_starts_over(store: Store) -> None:
    row = received_series(store, n_instances=2)
    assert store.closing.complete(row, closing(), T0)
    (job,) = store.jobs.list(series_instance_uid=SERIES)
    ids = [conflicting(store, number, **RIGHT) for number in (1, 2)]
    former = [one.digest for one in store.series.instances(SERIES)]

    assert adopt(store, *ids) == (SERIES,)

    series = store.series.get(SERIES)
    assert (series.state, series.generation, series.n_instances) == (SeriesState.RECEIVING, 2, 2)
    assert store.jobs.get(job.id).state.value == "superseded"
    assert store.studies.get(STUDY).state is StudyState.OPEN
    for one, before in zip(store.series.instances(SERIES), former, strict=True):
        assert one.digest != before
        assert b"Right^Name" in store.objects.read_dataset_bytes(one.digest)
        assert b"Test^Person" in store.objects.read_dataset_bytes(before)  # kept until retention
    assert {(one.choice, one.digest) for one in store.series.conflicts()} == {
        (ConflictChoice.ADOPTED, before) for before in former
    }
    assert store.series.n_conflicts() == 0
    assert store.studies.evidence(STUDY).n_patients == 1
    assert {row.action for row in store.audit.list()} == {"conflict-adopted"}


def test_the_attributes_of_study_and_patient_follow(store: Store) -> None:
    received_series(store, n_instances=1)
    adopt(store, conflicting(store, **RIGHT, SeriesNumber=9, StudyDescription="right"))
    (attributes,) = store.series.instance_attributes(SERIES)
    assert attributes["00100020"]["Value"] == ["P2"]
    assert attributes["00100010"]["Value"] == [{"Alphabetic": "Right^Name"}]
    assert attributes["00200011"]["Value"] == [9]
    assert store.erasure.studies_of("P2") == (STUDY,)
    assert store.erasure.studies_of("P1") == ()


def test_one_of_two_adopted_leaves_two_patients_in_the_study(store: Store) -> None:
    received_series(store, n_instances=2)
    adopt(store, conflicting(store, **RIGHT))
    assert store.studies.evidence(STUDY).n_patients == 2


def test_adopting_again_takes_it_back_and_what_is_sent_again_is_no_new_conflict(store: Store) -> None:
    received_series(store, n_instances=1)
    (before,) = store.series.instances(SERIES)
    conflict = conflicting(store, **RIGHT)
    adopt(store, conflict)
    assert keep(store, instance(1, **RIGHT)) is Kept.DUPLICATE
    assert keep(store, instance(1)) is Kept.CONFLICT
    assert len(store.series.conflicts()) == 1
    assert store.series.n_conflicts() == 0
    adopt(store, conflict)
    (after,) = store.series.instances(SERIES)
    assert (after.digest, after.transfer_syntax_uid) == (before.digest, before.transfer_syntax_uid)


def test_a_content_of_another_series_or_study_is_not_adopted_and_nothing_changes(store: Store) -> None:
    received_series(store, n_instances=2)
    good = conflicting(store, 2, **RIGHT)
    elsewhere = conflicting(store, StudyInstanceUID="1.2.99")
    before = store.series.instances(SERIES)
    with pytest.raises(ConflictChoiceError, match="names another series or study"):
        adopt(store, good, elsewhere)
    assert store.series.instances(SERIES) == before
    assert store.audit.list() == ()
    with pytest.raises(NotFoundError):
        adopt(store, 99)

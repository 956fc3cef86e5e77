"""What retention deleted cannot be exported, and says so; it does not undo the clearance of what is left."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.gate.judging import study_decision
from dicom_node.store import Closing, Skip, SourceState, Store
from tests.arrivals import receive
from tests.export.clearing import DIGEST, NOW, RULES, copies, export, looked_at, outcomes, patient
from tests.factories import ct_series
from tests.new_store import NewStore

LATER = NOW + timedelta(days=40)


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "node") as opened:
        yield opened


def source_of(store: Store, series_instance_uid: str) -> SourceState:
    (found,) = [one for one in store.retention.survey() if one.series_instance_uid == series_instance_uid]
    return found


def test_a_deleted_scout_does_not_undo_a_clearance_and_deleted_images_are_named(store: Store, tmp_path: Path) -> None:
    cleared = looked_at(store, "defaced")

    def of_study(ds: Dataset, index: int) -> None:
        patient(ds, index)
        ds.StudyInstanceUID = cleared.study_instance_uid

    scout = ct_series(n_slices=1, seed="scout", edit=of_study)
    receive(store, scout, at=NOW)
    skip = Closing("quiet", False, DIGEST, Skip("rule-localiser: a scout"))
    store.closing.complete(store.series.get(scout.series_instance_uid), skip, NOW)
    store.studies.decide(cleared.study_instance_uid, study_decision(RULES, DIGEST), NOW)
    assert store.retention.delete_sources(source_of(store, scout.series_instance_uid), LATER, because="age")
    assert list(outcomes(export(store, tmp_path / "one")).values()) == ["exported"]
    assert len(copies(tmp_path / "one")) == 4

    assert store.retention.delete_sources(source_of(store, cleared.series_instance_uid), LATER, because="age")
    content = export(store, tmp_path / "two")
    assert list(outcomes(content).values()) == ["sources-deleted"]
    assert copies(tmp_path / "two") == []

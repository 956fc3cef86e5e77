"""A modality that few series have is looked up; the answers are those of a walk through all studies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.store import Store
from dicom_node.store.index import modalities
from dicom_node.store.index.matching import FilterValue
from tests.new_store import StoreMaker
from tests.store.sending import ONLY_SQLITE, instance, keep


@pytest.fixture
def store(new_store: StoreMaker, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as store:
        for number, (study, modality) in enumerate((("1.1", "CT"), ("1.1", "PT"), ("1.2", "CT"), ("1.3", "MR"))):
            keep(store, instance(1, study=study, series=f"{study}.{number}", Modality=modality, StudyDate="20240105"))
        yield store


ASKED = [
    ({"ModalitiesInStudy": "PT"}, ["1.1"]),
    ({"ModalitiesInStudy": "MR,PT"}, ["1.3", "1.1"]),
    ({"ModalitiesInStudy": ("MR", "PT")}, ["1.3", "1.1"]),
    ({"ModalitiesInStudy": "?T"}, ["1.2", "1.1"]),
    ({"ModalitiesInStudy": "PT", "StudyDate": "20240105-"}, ["1.1"]),
    ({"ModalitiesInStudy": "PT", "StudyDate": "20250105-"}, []),
    ({"ModalitiesInStudy": "SR"}, []),
]


@pytest.mark.parametrize("max_rare", [0, 1, modalities.MAX_RARE])
@pytest.mark.parametrize(("filters", "expected"), ASKED, ids=str)
def test_both_ways_find_the_same_studies(
    store: Store, monkeypatch: pytest.MonkeyPatch, filters: dict[str, FilterValue], expected: list[str], max_rare: int
) -> None:
    monkeypatch.setattr(modalities, "MAX_RARE", max_rare)

    found = store.search.search_studies(filters)

    assert [one["0020000D"]["Value"][0] for one in found] == expected


@pytest.mark.parametrize("max_rare", [0, modalities.MAX_RARE])
def test_both_ways_find_the_same_series_and_instances(
    store: Store, monkeypatch: pytest.MonkeyPatch, max_rare: int
) -> None:
    monkeypatch.setattr(modalities, "MAX_RARE", max_rare)

    for search in (store.search.search_series, store.search.search_instances):
        found = search({"Modality": "PT"})

        assert [one["0020000E"]["Value"][0] for one in found] == ["1.1.1"]


@ONLY_SQLITE
@pytest.mark.parametrize(("modality", "is_used"), [("PT", True), ("?T", False)])
def test_only_a_rare_one_uses_the_index(store: Store, modality: str, *, is_used: bool) -> None:
    plans: list[str] = []

    def explain(connection: sa.Connection, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT studies.study_instance_uid"):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(str(row) for row in cursor.fetchall())

    sa.event.listen(sa.Engine, "before_cursor_execute", explain)
    try:
        list(store.search.search_studies({"ModalitiesInStudy": modality}))
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", explain)

    assert ("ix_series_modality" in " ".join(plans)) is is_used

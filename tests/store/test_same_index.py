"""A node whose index was lost, or lies on a disk that is not mounted, does not start as if it were new."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.app.wiring import check_objects
from dicom_node.settings import Settings
from dicom_node.store import Store, same_objects
from dicom_node.store.errors import IndexElsewhereError
from tests.new_store import StoreMaker
from tests.store.sending import instance, keep


@pytest.fixture(autouse=True)
def _three_objects_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_objects, "MORE_THAN_A_CRASH_LEAVES", 3)


@pytest.fixture
def node(new_store: StoreMaker, tmp_path: Path) -> Path:
    """Data directory of a node with three instances."""
    folder = tmp_path / "node"
    with new_store(folder) as store:
        for number in (1, 2, 3):
            keep(store, instance(number))
    return folder


def lose_index(node: Path) -> None:
    for path in node.glob("index.sqlite*"):
        path.unlink()


@pytest.mark.parametrize("lost", [False, True])
def test_a_new_index_over_old_objects_ends_the_start(node: Path, *, lost: bool) -> None:
    lose_index(node)
    settings = Settings.model_validate({"node": {"data_dir": str(node), "objects_are_lost": lost}})
    for _ in range(2):  # the first start leaves an empty index
        with (
            Store.open(node) as store,
            pytest.raises(IndexElsewhereError, match=r"index names nothing.* node\.database_url .*backup"),
        ):
            check_objects(settings, store)


def test_the_index_of_the_objects_starts_the_node(node: Path, new_store: StoreMaker) -> None:
    with new_store.again(node) as store:
        store.check_same_index()


def test_objects_that_are_moved_away_start_the_node_and_can_be_sent_again(node: Path) -> None:
    lose_index(node)
    (node / "objects").rename(node.with_name("old-objects"))
    with Store.open(node) as store:
        store.check_same_index()
        for number in (1, 2, 3):
            keep(store, instance(number))
        store.check_same_index()


def test_a_first_start_and_the_next_are_as_before(new_store: StoreMaker, tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        store.check_same_index()
        keep(store, instance(1))
        store.check_same_index()


def test_what_a_crash_leaves_of_a_first_start_is_no_lost_index(node: Path) -> None:
    lose_index(node)
    objects = [path for path in (node / "objects").rglob("*") if path.is_file()]
    objects[0].unlink()
    with Store.open(node) as store:
        store.check_same_index()


def test_an_object_that_is_just_being_received_is_no_lost_index(node: Path) -> None:
    """Another part of a new node receives its first instances; their rows are not committed yet."""
    lose_index(node)
    with Store.open(node) as store:
        for path in (node / "objects").rglob("*"):
            if path.is_file():
                (node / "spool" / path.name).hardlink_to(path)
        store.check_same_index()


def test_nothing_is_deleted_where_the_index_is_lost(node: Path) -> None:
    before = sorted(path for path in (node / "objects").rglob("*") if path.is_file())
    lose_index(node)
    with Store.open(node) as store, pytest.raises(IndexElsewhereError):
        store.check_same_index()
    assert sorted(path for path in (node / "objects").rglob("*") if path.is_file()) == before

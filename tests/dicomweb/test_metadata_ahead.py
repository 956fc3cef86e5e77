"""Metadata is computed after instances have arrived, when nothing else does, and once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.dicomweb import kept_metadata
from dicom_node.dicomweb.metadata_ahead import LONGEST_WAIT, QUIET, MetadataAhead
from dicom_node.store import StorageFullError, Store
from tests.arrivals import NOON, receive
from tests.factories import ct_series
from tests.new_store import NewStore

N_SLICES = 4
Kept = Callable[[], int]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """How many instances have metadata."""
    return lambda: len(list(tmp_path.glob("derived/*/*.z")))


@pytest.fixture
def ahead(store: Store, clock: Clock) -> MetadataAhead:
    """One that has looked at an empty store before."""
    ahead = MetadataAhead(store, clock)
    assert not ahead.look()
    return ahead


def test_it_waits_until_nothing_arrives(store: Store, ahead: MetadataAhead, clock: Clock, kept: Kept) -> None:
    receive(store, ct_series(N_SLICES))
    clock.now = NOON + QUIET / 2
    assert not ahead.look()
    assert kept() == 0
    clock.now = NOON + QUIET
    assert ahead.look()
    assert kept() == N_SLICES
    assert not ahead.look()


def test_it_does_not_wait_for_ever(store: Store, ahead: MetadataAhead, clock: Clock, kept: Kept) -> None:
    receive(store, ct_series(N_SLICES))
    later = NOON + LONGEST_WAIT
    receive(store, ct_series(1, seed="later"), at=later)
    clock.now = later
    assert ahead.look()
    assert kept() == N_SLICES + 1


def test_it_goes_on_where_another_process_was_killed(
    store: Store, ahead: MetadataAhead, clock: Clock, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(store, ct_series(N_SLICES))
    clock.now = NOON + QUIET
    assert ahead.look()
    receive(store, ct_series(2, seed="later"))
    monkeypatch.setattr("dicom_node.dicomweb.metadata_ahead.BATCH_ROWS", 1)
    read: list[str] = []
    reader = kept_metadata.read_without_pixels
    monkeypatch.setattr(
        kept_metadata, "read_without_pixels", lambda objects, row: read.append(row.digest) or reader(objects, row)
    )
    assert MetadataAhead(store, clock).look()
    assert MetadataAhead(store, clock).look()
    assert (len(read), kept()) == (2, N_SLICES + 2)


def test_what_was_there_before_is_left_to_its_first_request(store: Store, clock: Clock, kept: Kept) -> None:
    receive(store, ct_series(N_SLICES))
    clock.now = NOON + QUIET
    ahead = MetadataAhead(store, clock)
    assert not ahead.look()
    assert not ahead.look()
    assert kept() == 0


@pytest.mark.filterwarnings("ignore:End of file")
def test_an_object_that_is_gone_or_hostile_stops_no_other(
    store: Store, ahead: MetadataAhead, clock: Clock, kept: Kept
) -> None:
    series = ct_series(N_SLICES)
    receive(store, series)
    digests = [store.search.find_instances(sop_instance_uid=one.dataset().SOPInstanceUID)[0].digest for one in series]
    store.objects.path(digests[0]).unlink()
    damaged = store.objects.path(digests[1])
    content = damaged.read_bytes()
    damaged.write_bytes(content[:400] + b"\xff" * (len(content) - 400))
    clock.now = NOON + QUIET
    assert ahead.look()
    assert kept() == N_SLICES - 2


def test_it_leaves_a_disk_alone_that_is_nearly_full(
    store: Store, ahead: MetadataAhead, clock: Clock, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(store, ct_series(N_SLICES))
    clock.now = NOON + QUIET

    def full() -> None:
        raise StorageFullError(Path(), "0 GB free")

    with monkeypatch.context() as patch:
        patch.setattr(store.inbox, "check_space", full)
        assert not ahead.look()
    assert ahead.look()
    assert kept() == N_SLICES


def test_an_index_from_a_backup_does_not_hide_what_comes(
    store: Store, ahead: MetadataAhead, clock: Clock, kept: Kept
) -> None:
    store.objects.set_derived_mark(1000)
    assert not ahead.look()
    receive(store, ct_series(N_SLICES))
    clock.now = NOON + timedelta(hours=1)
    assert ahead.look()
    assert kept() == N_SLICES


def test_its_thread_works_and_ends(store: Store, kept: Kept) -> None:
    with MetadataAhead(store, lambda: NOON + timedelta(hours=1)) as running:
        pass
    assert not running._thread.is_alive()
    receive(store, ct_series(N_SLICES))
    with MetadataAhead(store, lambda: NOON + timedelta(hours=1)) as running:
        running._thread.join(0.1)
        while kept() < N_SLICES:
            assert running._thread.is_alive()
            running._thread.join(0.1)

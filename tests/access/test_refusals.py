"""Who is refused leaves an entry in the audit trail, and cannot fill it by being refused again and again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.access.refusals import MAX_IN_ALL, MAX_OF_SOURCE, PERIOD_S, Refusals
from dicom_node.access.seldom import WINDOW_S, Due, Seldom, source_of
from dicom_node.store import Store
from tests.new_store import NewStore


class Watch:
    """A clock that is set by hand."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def refusals(store: Store, watch: Watch) -> Refusals:
    return Refusals(store, lambda: datetime.now(UTC), monotonic=watch)


def refuse(refusals: Refusals, actor: str = "eve", *, source: str = "192.0.2.9", reason: str = "no") -> None:
    refusals.note("deletion refused", actor=actor, subject="1.2.3", source=source, detail={"reason": reason})


def test_the_same_refusal_is_one_entry_a_minute_with_its_number(refusals: Refusals, store: Store, watch: Watch) -> None:
    for _ in range(500):
        refuse(refusals)
    watch.now_s += PERIOD_S
    refuse(refusals)
    later, first = store.audit.list()
    assert (first.detail, later.detail) == ({"reason": "no"}, {"reason": "no", "times": 500})


def test_made_up_names_do_not_fill_the_trail_and_are_counted(refusals: Refusals, store: Store, watch: Watch) -> None:
    for number in range(1000):
        refuse(refusals, f"name {number}")
    assert len(store.audit.list(limit=5000)) == MAX_OF_SOURCE
    refuse(refusals, "somebody", source="192.0.2.10")  # who is elsewhere has entries of their own
    assert store.audit.list()[0].detail["others"] == 1000 - MAX_OF_SOURCE
    watch.now_s += WINDOW_S
    refuse(refusals, "name 0")
    assert store.audit.list()[0].detail == {"reason": "no"}


def test_many_addresses_do_not_fill_it_either(refusals: Refusals, store: Store) -> None:
    for number in range(1000):
        refuse(refusals, source=f"10.0.{number // 250}.{number % 250}")
    assert len(store.audit.list(limit=5000)) == MAX_IN_ALL


def test_texts_of_any_length_are_cut(refusals: Refusals, store: Store) -> None:
    refuse(refusals, "n" * 10_000, reason="r" * 10_000)
    (entry,) = store.audit.list()
    assert len(entry.actor) + len(entry.detail["reason"]) == 400


def test_the_addresses_of_one_ipv6_network_are_one_source() -> None:
    assert source_of("2001:db8:1:2:3:4:5:6") == source_of("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert source_of("2001:db8:1:3::1") != source_of("2001:db8:1:2::1")
    assert (source_of("::ffff:192.0.2.9"), source_of("192.0.2.9"), source_of("eve")) == (
        "192.0.2.9", "192.0.2.9", "eve",
    )  # fmt: skip


def test_without_bounds_every_key_is_due() -> None:
    seldom = Seldom(60.0)
    assert [seldom.count(number, 0.0) for number in range(500)] == [Due(1)] * 500

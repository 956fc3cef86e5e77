"""What is known of a quiet series beside its silence, from a real index and real associations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from pydicom.dataset import Dataset

from dicom_node.peers.errors import PeerUnreachableError
from dicom_node.pipeline.completeness import Evidence
from dicom_node.settings import DimsePeer
from dicom_node.store import SeriesRow, Store
from tests.arrivals import NOON, receive, witnesses
from tests.factories import SyntheticSeries, ct_series

QUIET_S = 30.0
PACS, ARCHIVE = (DimsePeer(name=name, ae_title="A", host="127.0.0.1", port=1) for name in ("pacs", "archive"))


def received(store: Store, n_slices: int = 5, edit: Callable[[Dataset, int], None] | None = None) -> SeriesRow:
    series: SyntheticSeries = ct_series(n_slices=n_slices)
    receive(store, series if edit is None else series.edited(edit))
    return store.series.get(series.series_instance_uid)


class Peers:
    """Stand in for peers: each says a number, nothing, or is down; and it is remembered who was asked."""

    def __init__(self, **answers: int | Exception | None) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, peer: object, _study: str, _series: str, /) -> int | None:
        name = peer.name  # type: ignore[attr-defined]
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


def hear(store: Store, row: SeriesRow, peers: Peers) -> Evidence:
    return witnesses(store, QUIET_S, peers=(PACS, ARCHIVE), ask=peers).hear(row, NOON)


def test_a_peer_that_has_as_many_confirms_whatever_instances_say(store: Store) -> None:
    row = received(store, edit=lambda ds, _: setattr(ds, "NumberOfSeriesRelatedInstances", 99))
    peers = Peers(pacs=5, archive=9)
    assert hear(store, row, peers) == Evidence(confirmed="pacs has 5 instances, as many as are here")
    assert peers.asked == ["pacs"]


def test_a_peer_that_has_more_is_a_doubt(store: Store) -> None:
    assert hear(store, received(store), Peers(pacs=7)).doubts == ("pacs has 7 instances, 5 are here",)


def test_a_peer_that_does_not_know_the_series_or_less_of_it_says_nothing(store: Store) -> None:
    row = received(store)
    peers = Peers(pacs=None, archive=None)
    assert hear(store, row, peers) == Evidence()
    assert peers.asked == ["pacs", "archive"]
    assert hear(store, row, Peers(pacs=3)) == Evidence()


def test_a_peer_that_is_down_is_a_doubt_unless_another_knows(store: Store) -> None:
    row, down = received(store), PeerUnreachableError("pacs", "no connection")
    assert hear(store, row, Peers(pacs=down, archive=None)).doubts == (
        "pacs does not say how many it has (peer-unreachable)",
    )
    assert hear(store, row, Peers(pacs=down, archive=5)).confirmed == "archive has 5 instances, as many as are here"


def test_a_question_that_breaks_holds_nothing_up(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    row = received(store)
    peers = Peers(pacs=UnicodeError("label too long"), archive=None)
    heard = witnesses(store, QUIET_S, peers=(PACS, ARCHIVE), ask=peers)
    assert heard.hear(row, NOON).doubts == ("pacs does not say how many it has (internal)",)
    assert "UnicodeError" in caplog.text


def test_a_peer_that_is_down_is_left_alone_for_a_while_and_then_asked_again(store: Store) -> None:
    row = received(store)
    peers = Peers(pacs=PeerUnreachableError("pacs", "no connection"), archive=None)
    heard = witnesses(store, QUIET_S, peers=(PACS, ARCHIVE), ask=peers)
    for seconds in (0, 5, 59):
        assert heard.hear(row, NOON + timedelta(seconds=seconds)).doubts
    assert peers.asked.count("pacs") == 1
    peers.answers["pacs"] = 5
    assert heard.hear(row, NOON + timedelta(seconds=60)).confirmed is not None


def test_a_peer_is_not_asked_at_every_look_and_again_when_something_came(store: Store) -> None:
    series = ct_series(n_slices=6)
    receive(store, series[:5])
    peers = Peers(pacs=6)
    heard = witnesses(store, QUIET_S, peers=(PACS,), ask=peers)
    row = store.series.get(series.series_instance_uid)
    for seconds in (0, 5, 29, 31):
        assert heard.hear(row, NOON + timedelta(seconds=seconds)).doubts
    assert len(peers.asked) == 2
    receive(store, series[5:])
    row = store.series.get(series.series_instance_uid)
    assert heard.hear(row, NOON + timedelta(seconds=32)).confirmed is not None


def test_a_peer_that_does_not_know_the_series_is_not_asked_at_every_look_because_another_is_down(store: Store) -> None:
    row = received(store)
    peers = Peers(pacs=PeerUnreachableError("pacs", "no connection"), archive=None)
    heard = witnesses(store, QUIET_S, peers=(PACS, ARCHIVE), ask=peers)
    for seconds in (0, 5, 29):
        assert heard.hear(row, NOON + timedelta(seconds=seconds)).doubts
    assert peers.asked == ["pacs", "archive"]


@pytest.mark.parametrize(
    ("said", "evidence"),
    [
        (5, Evidence(confirmed="its instances say that it has 5, as many as are here")),
        (8, Evidence(doubts=("its instances say that it has 8, 5 are here",))),
        (3, Evidence()),
    ],
)
def test_instances_that_say_how_many_they_are(store: Store, said: int, evidence: Evidence) -> None:
    row = received(store, edit=lambda ds, _: setattr(ds, "NumberOfSeriesRelatedInstances", said))
    assert witnesses(store, QUIET_S).hear(row, NOON) == evidence


def test_an_acquisition_that_is_short_is_a_doubt(store: Store) -> None:
    def acquire(ds: Dataset, index: int) -> None:
        ds.AcquisitionNumber = 1 + index // 3  # three images, then two
        ds.ImagesInAcquisition = 3

    row = received(store, edit=acquire)
    assert witnesses(store, QUIET_S).hear(row, NOON).doubts == ("acquisition 2 has 3 images, 2 are here",)


def test_an_acquisition_that_made_several_series_is_none(store: Store) -> None:
    def acquire(ds: Dataset, _: int) -> None:
        ds.AcquisitionNumber = 1
        ds.ImagesInAcquisition = 2  # GE: 15 in a series of 150

    assert witnesses(store, QUIET_S).hear(received(store, edit=acquire), NOON) == Evidence()


@pytest.mark.parametrize("word", ["MOSAIC", "VFRAME"])
def test_mosaics_at_uneven_places_are_no_gap(store: Store, word: str) -> None:
    """Each holds a whole image, and scanners that follow the head's motion move it."""

    def follow(ds: Dataset, index: int) -> None:
        ds.ImagePositionPatient = [0.0, 0.0, (0.0, 0.1, 0.2, 0.8, 0.9)[index]]

    assert "missing" in hear(store, received(store, edit=follow), Peers(pacs=None, archive=None)).doubts[0]

    def as_mosaic(ds: Dataset, index: int) -> None:
        follow(ds, index)
        ds.SOPInstanceUID += ".1"
        ds.SeriesInstanceUID += ".1"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", word]

    series = ct_series(n_slices=5).edited(as_mosaic)
    receive(store, series)
    row = store.series.get(f"{series.series_instance_uid}.1")
    assert hear(store, row, Peers(pacs=None, archive=None)) == Evidence()


def test_nonsense_says_nothing(store: Store) -> None:
    def spoil(ds: Dataset, index: int) -> None:
        ds.ImagePositionPatient = [0.0, 0.0] if index else None
        ds.ImagesInAcquisition = None
        ds.NumberOfSeriesRelatedInstances = None

    assert witnesses(store, QUIET_S).hear(received(store, edit=spoil), NOON) == Evidence()


def test_a_pause_of_a_sender_is_no_end(store: Store) -> None:
    row = received(store)
    with store.associations.hold("1") as note_message:
        note_message(NOON)
        assert witnesses(store, QUIET_S).hear(row, NOON).doubts == ("the association that brought it is still open",)
        note_message(NOON + timedelta(seconds=29))  # brought something of another series, then paused
        assert witnesses(store, QUIET_S).hear(row, NOON).doubts
        note_message(NOON + timedelta(seconds=30))  # has been at work on another series all the time
        assert witnesses(store, QUIET_S).hear(row, NOON) == Evidence()
        note_message(NOON)
    assert witnesses(store, QUIET_S).hear(row, NOON) == Evidence()

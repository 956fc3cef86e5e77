"""Results reach their peers, each peer at its own pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.peers import ObjectToSend, SendOutcome, deliver
from dicom_node.peers.errors import PeerUnreachableError
from dicom_node.pipeline.clock import Clock, Tick
from dicom_node.pipeline.delivery import Outbox, Send, warn_about_strays
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.settings import DimsePeer
from dicom_node.store import JobState, Store
from tests.arrivals import NOON, dataset_bytes, leave_results
from tests.peer_servers import DimsePeerServer, free_port, start_storescp

LATER = NOON + timedelta(seconds=60)


def never() -> bool:
    return False


def outbox(
    store: Store, peer: DimsePeer, *, send: Send | None = None, now: datetime = LATER, max_attempts: int = 3
) -> Outbox:
    return Outbox(
        store,
        peer,
        send or partial(deliver, calling_ae_title="NODE", timeout_s=10.0),
        RetryPolicy(max_attempts, backoff_s=10.0),
        lease_s=30.0,
        owner="w1",
        clock=lambda: now,
    )


def nowhere(name: str = "nowhere") -> DimsePeer:
    return DimsePeer(name=name, ae_title="NOWHERE", host="127.0.0.1", port=free_port())


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[DimsePeerServer]:
    with start_storescp(tmp_path, ae_title="ARCHIVE") as server:
        yield server


@pytest.mark.peers
def test_what_is_due_arrives_byte_for_byte_and_is_noted(store: Store, archive: DimsePeerServer) -> None:
    results = leave_results(store, "archive")
    peer = DimsePeer(name="archive", ae_title="ARCHIVE", host=archive.host, port=archive.port)
    assert outbox(store, peer).deliver_due(must_stop=never) == 2
    assert {delivery.state for delivery in store.deliveries.list()} == {JobState.SUCCEEDED}
    arrived = {str(dcmread(path).SOPInstanceUID): path.read_bytes() for path in archive.folder.iterdir()}
    sent = {str(result.dataset().SOPInstanceUID): result.part10 for result in results}
    assert {uid: dataset_bytes(part10) for uid, part10 in arrived.items()} == {
        uid: dataset_bytes(part10) for uid, part10 in sent.items()
    }
    assert outbox(store, peer).deliver_due(must_stop=never) == 0


# pynetdicom forgets to close a socket that could not connect.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_peer_that_is_away_is_tried_again_later_and_in_the_end_no_more(store: Store) -> None:
    leave_results(store, "nowhere", n_results=1)
    peer = nowhere()
    now = LATER
    for expected_wait_s in (10, 20):
        assert outbox(store, peer, now=now).deliver_due(must_stop=never) == 0
        (delivery,) = store.deliveries.list()
        assert (delivery.state, delivery.error_code) == (JobState.WAITING, "peer-unreachable")
        assert delivery.retry_at == now + timedelta(seconds=expected_wait_s)
        now = delivery.retry_at
    outbox(store, peer, now=now).deliver_due(must_stop=never)
    (delivery,) = store.deliveries.list()
    assert delivery.state is JobState.DEAD
    assert outbox(store, peer, now=now + timedelta(days=9)).deliver_due(must_stop=never) == 0


def test_a_peer_that_hangs_does_not_keep_another_waiting(store: Store) -> None:
    leave_results(store, "hangs", "answers")
    hanging, answered = threading.Event(), threading.Event()

    def hang(_peer: object, objects: Sequence[ObjectToSend]) -> tuple[SendOutcome, ...]:
        hanging.wait(20.0)
        return tuple(SendOutcome(one.sop_instance_uid, PeerUnreachableError("hangs", "made up")) for one in objects)

    def answer(_peer: object, objects: Sequence[ObjectToSend]) -> tuple[SendOutcome, ...]:
        answered.set()
        return tuple(SendOutcome(one.sop_instance_uid) for one in objects)

    boxes = [outbox(store, nowhere("hangs"), send=hang), outbox(store, nowhere("answers"), send=answer)]
    with Clock([Tick(box.peer.name, partial(box.deliver_due, must_stop=never), 0.1) for box in boxes]):
        assert answered.wait(10.0)
        end = time.monotonic() + 60.0
        while len(store.deliveries.list(states=[JobState.SUCCEEDED])) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert not hanging.is_set()
        hanging.set()


def test_an_object_that_is_lost_fails_alone(store: Store) -> None:
    lost, whole = leave_results(store, "archive")
    rows = {row.sop_instance_uid: row for row in store.deliveries.list()}
    store.objects.path(rows[str(lost.dataset().SOPInstanceUID)].digest).unlink()

    def answer(_peer: object, objects: Sequence[ObjectToSend]) -> tuple[SendOutcome, ...]:
        return tuple(SendOutcome(one.sop_instance_uid) for one in objects)

    assert outbox(store, nowhere("archive"), send=answer).deliver_due(must_stop=never) == 1
    states = {row.sop_instance_uid: (row.state, row.error_code) for row in store.deliveries.list()}
    assert states == {
        str(lost.dataset().SOPInstanceUID): (JobState.DEAD, "object-missing"),
        str(whole.dataset().SOPInstanceUID): (JobState.SUCCEEDED, None),
    }


def test_a_result_whose_bytes_have_changed_is_not_sent(store: Store) -> None:
    changed, whole = leave_results(store, "archive")
    rows = {row.sop_instance_uid: row for row in store.deliveries.list()}
    path = store.objects.path(rows[str(changed.dataset().SOPInstanceUID)].digest)
    path.write_bytes(path.read_bytes()[:-1] + b"\xaa")

    def answer(_peer: object, objects: Sequence[ObjectToSend]) -> tuple[SendOutcome, ...]:
        return tuple(SendOutcome(one.sop_instance_uid) for one in objects)

    assert outbox(store, nowhere("archive"), send=answer).deliver_due(must_stop=never) == 1
    states = {row.sop_instance_uid: (row.state, row.error_code) for row in store.deliveries.list()}
    assert states == {
        str(changed.dataset().SOPInstanceUID): (JobState.DEAD, "object-damaged"),
        str(whole.dataset().SOPInstanceUID): (JobState.SUCCEEDED, None),
    }


def test_a_defect_while_sending_is_recorded_and_bounded(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    leave_results(store, "archive", n_results=1)

    def defect(_peer: object, _objects: Sequence[ObjectToSend]) -> tuple[SendOutcome, ...]:
        raise KeyError("Doe^Jane")

    now = LATER
    for _ in range(2):
        outbox(store, nowhere("archive"), send=defect, now=now).deliver_due(must_stop=never)
        now += timedelta(seconds=10)
    (delivery,) = store.deliveries.list()
    assert (delivery.state, delivery.error_code) == (JobState.DEAD, "internal")
    assert "Doe" not in str(delivery.error_message)
    assert "Traceback" in caplog.text


def test_an_expired_delivery_is_not_noted_twice(store: Store) -> None:
    leave_results(store, "archive", n_results=1)

    def answer_late(_peer: object, objects: Sequence[ObjectToSend]) -> tuple[SendOutcome, ...]:
        assert store.deliveries.expire_leases(LATER + timedelta(seconds=31)) == 1
        return tuple(SendOutcome(one.sop_instance_uid) for one in objects)

    box = outbox(store, nowhere("archive"), send=answer_late)
    stop = iter([False, True])
    box.deliver_due(must_stop=lambda: next(stop))
    (delivery,) = store.deliveries.list()
    assert delivery.state is JobState.QUEUED


def test_deliveries_to_a_peer_that_is_gone_from_the_settings_are_named_at_the_start(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    leave_results(store, "pacs", "gone")
    warn_about_strays(store, ["pacs"])
    (record,) = [record for record in caplog.records if "settings do not name" in record.message]
    assert (record.peer, record.n_deliveries) == ("gone", 2)

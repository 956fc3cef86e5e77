"""What a peer accepted is counted there, and which encodings it takes is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from dicom_node.peers import ObjectToSend, SendOutcome, count_instances, deliver
from dicom_node.peers.errors import ContextRefusedError, PeerUnreachableError
from dicom_node.pipeline.delivery import Outbox
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.pipeline.verification import MAX_CHECKS, DeliveryCheck
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.store import JobState, Store
from tests.arrivals import NOON, leave_results
from tests.peer_servers import OrthancServer, free_port, start_orthanc, start_storescp

LATER = NOON + timedelta(minutes=2)
SETTLED = LATER + timedelta(minutes=1)


def never() -> bool:
    return False


def peer_at(port: int, ae_title: str = "ARCHIVE") -> DimsePeer:
    return DimsePeer(name="archive", ae_title=ae_title, host="127.0.0.1", port=port, verify_counts=True)


def send_to(store: Store, peer: DimsePeer | DicomwebPeer) -> int:
    send = partial(deliver, calling_ae_title="NODE", timeout_s=30.0)
    outbox = Outbox(store, peer, send, RetryPolicy(3, 1.0), 60.0, "w", lambda: LATER)
    return outbox.deliver_due(must_stop=never)


def accept_all(store: Store, peer: DimsePeer) -> None:
    """Have results that a peer has accepted; it is a stand-in that forgets them."""

    def accept(_peer: object, objects: list[ObjectToSend]) -> tuple[SendOutcome, ...]:
        return tuple(SendOutcome(one.sop_instance_uid) for one in objects)

    leave_results(store, peer.name)
    outbox = Outbox(store, peer, accept, RetryPolicy(1, 1.0), 60.0, "w", lambda: LATER)  # type: ignore[arg-type]
    assert outbox.deliver_due(must_stop=never) == 2


def check(store: Store, peer: DimsePeer | DicomwebPeer, now: datetime, answer: object = None) -> int:
    def say(*_: object) -> int | None:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    count = partial(count_instances, calling_ae_title="NODE") if answer is None else say
    return DeliveryCheck(store, peer, count, lambda: now).check_due(must_stop=never)


def test_a_series_is_counted_once_it_is_settled_and_no_more_when_it_is_complete(store: Store) -> None:
    peer = peer_at(free_port())
    accept_all(store, peer)
    assert check(store, peer, LATER, 2) == 0
    assert check(store, peer, SETTLED, 2) == 1
    assert check(store, peer, SETTLED + timedelta(days=1), 0) == 0
    assert {(row.n_found, row.n_sent) for row in store.deliveries.list()} == {(2, 2)}
    assert store.delivery_checks.counts() == {"archive": {"complete": 1}}


def test_a_peer_that_has_fewer_is_asked_again_for_a_while_and_stays_visible(store: Store) -> None:
    peer = peer_at(free_port())
    accept_all(store, peer)
    now = SETTLED
    for n_checks in range(1, MAX_CHECKS + 1):
        assert check(store, peer, now, 1) == 0
        (found,) = store.delivery_checks.list(only_short=True)
        assert (found.n_found, found.n_sent, found.n_checks) == (1, 2, n_checks)
        now = found.due_at or now
    assert check(store, peer, now + timedelta(days=9), 2) == 0
    assert store.delivery_checks.counts() == {"archive": {"short": 1}}
    (delivery, _) = store.deliveries.list()
    assert store.deliveries.send_again(delivery.id, by="op", now=now).state is JobState.QUEUED
    send = lambda _peer, objects: tuple(SendOutcome(one.sop_instance_uid) for one in objects)  # noqa: E731
    Outbox(store, peer, send, RetryPolicy(1, 1.0), 60.0, "w", lambda: now).deliver_due(must_stop=never)
    assert check(store, peer, now + timedelta(minutes=1), 2) == 1  # it counts again, and the object counts once


def test_a_peer_without_queries_is_no_failure(store: Store) -> None:
    peer = peer_at(free_port())
    accept_all(store, peer)
    assert check(store, peer, SETTLED, PeerUnreachableError("archive", "made up")) == 0
    (found,) = store.delivery_checks.list()
    assert found.due_at is not None
    assert (
        check(
            store,
            peer,
            found.due_at,
            ContextRefusedError("archive", "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.2"),
        )
        == 0
    )
    (found,) = store.delivery_checks.list()
    assert (found.n_found, found.due_at) == (None, None)
    assert "Study Root" in found.reason
    assert store.delivery_checks.counts() == {"archive": {"not counted": 1}}


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[OrthancServer]:
    with start_orthanc(tmp_path / "orthanc", modalities={"node": ("NODE", free_port())}) as server:
        yield server


@pytest.mark.peers
@pytest.mark.parametrize("is_dimse", [True, False], ids=["c-find", "qido"])
def test_orthanc_is_asked_what_it_has(store: Store, orthanc: OrthancServer, is_dimse: bool) -> None:
    peer: DimsePeer | DicomwebPeer = peer_at(orthanc.port, "ORTHANC")
    if not is_dimse:
        peer = DicomwebPeer(name="archive", url=orthanc.dicomweb_url, verify_counts=True)  # type: ignore[arg-type]
    results = leave_results(store, "archive")
    assert send_to(store, peer) == 2
    lost = str(results[0].dataset().SOPInstanceUID)
    found = httpx.post(f"{orthanc.url}/tools/lookup", content=lost, trust_env=False).json()
    httpx.delete(f"{orthanc.url}/instances/{found[0]['ID']}", trust_env=False).raise_for_status()
    assert check(store, peer, SETTLED) == 0
    assert {(row.n_found, row.n_sent) for row in store.deliveries.list()} == {(1, 2)}
    (delivery,) = [row for row in store.deliveries.list() if row.sop_instance_uid == lost]
    store.deliveries.send_again(delivery.id, by="op", now=LATER)
    assert send_to(store, peer) == 1
    assert check(store, peer, SETTLED) == 1


@pytest.mark.peers
def test_a_refused_encoding_is_named_and_remembered_until_it_is_accepted(store: Store, tmp_path: Path) -> None:
    leave_results(store, "archive")
    with start_storescp(tmp_path, ae_title="ARCHIVE", options=("--implicit",)) as server:
        peer = peer_at(server.port)
        assert send_to(store, peer) == 0
    (delivery, _) = store.deliveries.list()
    assert delivery.state is JobState.DEAD
    assert "does not accept SOP class 1.2.840.10008.5.1.4.1.1.4 (MR Image Storage) in transfer syntax" in str(
        delivery.error_message
    )
    assert "(Explicit VR Little Endian)" in str(delivery.error_message)
    (context,) = store.peer_contexts.list()
    assert (context.peer, context.is_accepted) == ("archive", False)
    assert context.sop_class_uid == delivery.sop_class_uid
    for row in store.deliveries.list():
        store.deliveries.retry(row.id)
    with start_storescp(tmp_path / "again", ae_title="ARCHIVE") as server:
        assert send_to(store, peer_at(server.port)) == 2
    (context,) = store.peer_contexts.list()
    assert context.is_accepted

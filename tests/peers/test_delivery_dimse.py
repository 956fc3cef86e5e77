"""Results go to peers by C-STORE: what arrives, and what each failure means for trying again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import AllStoragePresentationContexts

from dicom_node.dimse import DimseServer
from dicom_node.failures import ErrorKind, classify
from dicom_node.peers import check_peer, deliver
from dicom_node.peers.status import outcome_of_status
from dicom_node.settings import DimsePeer, DimseSettings
from dicom_node.store import InstanceRow, Store
from dicom_node.upper_layer.associate import MAX_CONTEXTS, Acceptance, decode_request, encode_acceptance
from dicom_node.upper_layer.pdu_stream import PduStream
from dicom_node.upper_layer.presentation import AnsweredContext
from tests.dimse.raw_peer import RawPeer, dataset_part
from tests.factories import ct_series
from tests.peer_servers import free_port, start_storescp
from tests.peers.objects import files_to_send, to_send


@contextmanager
def receiving_node(folder: Path, *, min_free_bytes: int = 0, **settings: Any) -> Iterator[tuple[DimsePeer, Store]]:
    with (
        Store.open(folder, min_free_bytes=min_free_bytes) as store,
        DimseServer(store, DimseSettings(host="127.0.0.1", port=0, **settings), ae_title="PEER") as server,
    ):
        yield DimsePeer(name="peer", ae_title="PEER", host="127.0.0.1", port=server.port), store


def instances(store: Store) -> list[InstanceRow]:
    return [row for series in store.series.list() for row in store.series.instances(series.series_instance_uid)]


def kinds(outcomes: tuple[Any, ...]) -> set[tuple[ErrorKind, str]]:
    return {(classify(outcome.error), outcome.error.code) for outcome in outcomes}


@pytest.mark.peers
def test_storescp_gets_the_bytes_of_what_is_sent(tmp_path: Path) -> None:
    series = ct_series(n_slices=5, rows=64)
    with start_storescp(tmp_path) as server:
        peer = DimsePeer(name="storescp", ae_title="STORESCP", host=server.host, port=server.port)
        outcomes = deliver(peer, to_send(series), calling_ae_title="NODE")
        received = {dcmread(path).SOPInstanceUID: path.read_bytes() for path in server.folder.iterdir()}
    assert all(outcome.is_delivered for outcome in outcomes)
    assert [outcome.sop_instance_uid for outcome in outcomes] == [each.sop_instance_uid for each in to_send(series)]
    for instance in series:
        assert dataset_part(received[instance.dataset().SOPInstanceUID]) == dataset_part(instance.part10)


@pytest.mark.peers
@pytest.mark.data
def test_each_object_goes_in_its_own_transfer_syntax(tmp_path: Path, real_series: Callable[[str], Path]) -> None:
    # The lossless ones share a SOP Instance UID: the first is stored, the others are conflicts, and all bytes are kept.
    paths = sorted(real_series("ct_16_transfer_syntaxes").rglob("*.dcm"))
    with receiving_node(tmp_path / "peer") as (peer, store):
        outcomes = deliver(peer, files_to_send(paths), calling_ae_title="NODE")
        assert all(outcome.is_delivered for outcome in outcomes)
        assert {outcome.warning_status for outcome in outcomes} == {None, 0xB000}
        digests = {row.digest for row in instances(store)} | {conflict.digest for conflict in store.series.conflicts()}
        kept = {store.objects.read_dataset_bytes(digest) for digest in digests}
    assert kept == {dataset_part(path.read_bytes()) for path in paths}


def test_more_kinds_of_objects_than_an_association_holds_go_over_several(tmp_path: Path) -> None:
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    assert len(classes) > MAX_CONTEXTS

    def of_class(ds: Any, index: int) -> None:
        ds.SOPClassUID = classes[index]
        ds.file_meta.MediaStorageSOPClassUID = classes[index]

    series = ct_series(n_slices=len(classes), rows=4, columns=4, edit=of_class)
    with receiving_node(tmp_path / "peer") as (peer, store):
        outcomes = deliver(peer, to_send(series), calling_ae_title="NODE")
        stored = instances(store)
    assert all(outcome.is_delivered for outcome in outcomes)
    assert {row.sop_class_uid for row in stored} == set(classes)


def test_a_peer_that_is_not_there_is_tried_again() -> None:
    peer = DimsePeer(name="gone", ae_title="PEER", host="127.0.0.1", port=free_port())
    outcomes = deliver(peer, to_send(ct_series(n_slices=2, rows=16)), calling_ae_title="NODE")
    assert len(outcomes) == 2
    assert kinds(outcomes) == {(ErrorKind.TRANSIENT, "peer-unreachable")}


def test_a_name_that_does_not_resolve_is_tried_again() -> None:
    peer = DimsePeer(name="gone", ae_title="PEER", host="pacs.invalid", port=104)
    outcomes = deliver(peer, to_send(ct_series(n_slices=1, rows=16)), calling_ae_title="NODE")
    assert kinds(outcomes) == {(ErrorKind.TRANSIENT, "peer-unreachable")}


@pytest.mark.parametrize(
    ("settings", "called", "kind", "code"),
    [
        ({}, "OTHER", ErrorKind.TRANSIENT, "association-rejected"),
        ({"allowed_calling_ae_titles": ("SOMEBODY",)}, "PEER", ErrorKind.TRANSIENT, "association-rejected"),
        ({"min_free_bytes": 2**62}, "PEER", ErrorKind.TRANSIENT, "store-failed-for-now"),
    ],
)
def test_what_the_peer_says_decides_whether_to_try_again(
    tmp_path: Path, settings: dict[str, Any], called: str, kind: ErrorKind, code: str
) -> None:
    with receiving_node(tmp_path / "peer", **settings) as (peer, _):
        chosen = peer.model_copy(update={"ae_title": called})
        outcomes = deliver(chosen, to_send(ct_series(n_slices=1, rows=16)), calling_ae_title="NODE")
    assert kinds(outcomes) == {(kind, code)}


def test_a_peer_without_a_free_place_is_tried_again(tmp_path: Path) -> None:
    with receiving_node(tmp_path / "peer", max_associations=1) as (peer, _), RawPeer(peer.port) as holder:
        holder.associate(called_ae_title="PEER")
        outcomes = deliver(peer, to_send(ct_series(n_slices=1, rows=16)), calling_ae_title="NODE")
    assert kinds(outcomes) == {(ErrorKind.TRANSIENT, "association-busy")}


@pytest.mark.peers
def test_a_class_that_the_peer_does_not_take_is_refused_and_the_others_arrive(tmp_path: Path) -> None:
    def to_label_map(ds: Any, _: int) -> None:
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID

    objects = to_send([*ct_series(n_slices=1, rows=16, edit=to_label_map), *ct_series(n_slices=1, rows=16, seed="b")])
    with start_storescp(tmp_path, options=()) as server:  # not promiscuous: only the classes that this dcmtk knows
        peer = DimsePeer(name="storescp", ae_title="STORESCP", host=server.host, port=server.port)
        refused, arrived = deliver(peer, objects, calling_ae_title="NODE")
        (only_refused,) = deliver(peer, objects[:1], calling_ae_title="NODE")
    assert arrived.is_delivered
    for outcome in (refused, only_refused):
        assert outcome.error is not None
        assert (classify(outcome.error), outcome.error.code) == (ErrorKind.REFUSED, "context-refused")
        assert "1.2.840.10008.5.1.4.1.1.66.7" in str(outcome.error)


@contextmanager
def stalling_server(n_bytes_read: int) -> Iterator[DimsePeer]:
    """A peer that accepts the association as our own acceptor would, reads some of what follows and falls silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        done = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                stream = PduStream(connection, max_pdu_bytes=16384, pdu_timeout_s=5)
                request = decode_request(stream.read())
                accepted = (
                    AnsweredContext(each.context_id, 0, each.transfer_syntax_uids[0]) for each in request.contexts
                )
                stream.send(encode_acceptance(Acceptance("NODE", "PEER", tuple(accepted), 16384)))
                if n_bytes_read:
                    connection.recv(n_bytes_read)
                done.wait(30)

        server = threading.Thread(target=serve)
        server.start()
        yield DimsePeer(name="stalled", ae_title="PEER", host="127.0.0.1", port=listener.getsockname()[1])
        done.set()
        server.join()


@pytest.mark.parametrize("rows", [16, 2048], ids=["silent-after-the-request", "stops-reading"])
def test_a_peer_that_falls_silent_is_given_up_in_time_and_tried_again(rows: int) -> None:
    voxels_hu = np.zeros((2, rows, 2048), np.float32)
    objects = to_send(ct_series(n_slices=2, rows=rows, columns=2048, voxels_hu=voxels_hu))
    with stalling_server(100) as peer:
        began = time.monotonic()
        outcomes = deliver(peer, objects, calling_ae_title="NODE", timeout_s=1.0)
        elapsed = time.monotonic() - began
    assert elapsed < 25
    assert {kind for kind, _ in kinds(outcomes)} == {ErrorKind.TRANSIENT}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0x0000, None),
        (0xB000, None),
        (0xB007, None),
        (0x0111, None),
        (0xA700, ErrorKind.TRANSIENT),
        (0xA7FF, ErrorKind.TRANSIENT),
        (0x0110, ErrorKind.TRANSIENT),
        (0xA900, ErrorKind.REFUSED),
        (0xC123, ErrorKind.REFUSED),
        (0x0122, ErrorKind.REFUSED),
        (0x0124, ErrorKind.REFUSED),
    ],
)
def test_a_status_says_whether_the_peer_has_it(status: int, expected: ErrorKind | None) -> None:
    outcome = outcome_of_status("peer", "2.25.1", status)
    assert (None if outcome.error is None else classify(outcome.error)) == expected


def test_an_echo_finds_the_peer_or_says_why_not(tmp_path: Path) -> None:
    with receiving_node(tmp_path / "peer") as (peer, _):
        assert check_peer(peer, calling_ae_title="NODE") is None
        wrong = check_peer(peer.model_copy(update={"ae_title": "OTHER"}), calling_ae_title="NODE")
    assert wrong is not None
    assert wrong.code == "association-rejected"
    gone = check_peer(peer, calling_ae_title="NODE")
    assert gone is not None
    assert gone.code == "peer-unreachable"

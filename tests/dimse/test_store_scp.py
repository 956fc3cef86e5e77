"""C-STORE over a real store: what is kept, what is answered."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from dicom_node.dimse import DimseServer
from dicom_node.dimse.errors import ListenError
from dicom_node.dimse.status import Status
from dicom_node.settings import DimseSettings
from dicom_node.store import Spool
from dicom_node.upper_layer.pdu_stream import PduType
from tests.dimse.listening_node import ListeningNode, StartNode
from tests.dimse.raw_peer import RawPeer, command, dataset_part, p_data, store_command
from tests.factories import EncodedInstance, ct_series

ABORT = struct.pack(">BBI", 7, 0, 4) + bytes(4)


def uid_and_data_set(instance: EncodedInstance) -> tuple[str, bytes]:
    return str(instance.dataset().SOPInstanceUID), dataset_part(instance.part10)


def set_description(ds: Dataset) -> None:
    ds.SeriesDescription = "another"


def _store_command_of(sop_instance_uid: str) -> bytes:
    return command(
        affected_sop_class_uid=CTImageStorage,
        command_field=1,
        message_id=1,
        data_set_type=1,
        affected_sop_instance_uid=sop_instance_uid,
    )


@pytest.fixture
def instances() -> list[tuple[str, bytes]]:
    return [uid_and_data_set(instance) for instance in ct_series(n_slices=3, rows=16, columns=20)]


def test_an_instance_lies_on_disk_byte_for_byte_with_who_sent_it(
    node: ListeningNode, instances: list[tuple[str, bytes]]
) -> None:
    uid, data_set = instances[0]
    with RawPeer(node.port) as peer:
        peer.associate(calling_ae_title="SCANNER")
        assert peer.store(uid, data_set) == Status.SUCCESS
        (row,) = node.instances()  # before the release: success was the promise
        assert peer.release() == PduType.RELEASE_RP
    assert node.dataset_bytes(uid) == data_set
    assert (row.sop_instance_uid, row.sop_class_uid, row.calling_ae_title) == (uid, CTImageStorage, "SCANNER")


def test_the_same_bytes_again_are_a_success_and_change_nothing(
    node: ListeningNode, instances: list[tuple[str, bytes]]
) -> None:
    uid, data_set = instances[0]
    with RawPeer(node.port) as peer:
        peer.associate()
        assert [peer.store(uid, data_set) for _ in range(2)] == [Status.SUCCESS, Status.SUCCESS]
    assert len(node.instances()) == 1


def test_other_bytes_under_a_known_uid_are_a_warning_and_the_first_stays(
    node: ListeningNode, caplog: pytest.LogCaptureFixture
) -> None:
    original = ct_series(n_slices=1, rows=16)[0]
    uid, first = uid_and_data_set(original)
    _, second = uid_and_data_set(original.edited(set_description))
    with RawPeer(node.port) as peer:
        peer.associate()
        assert [peer.store(uid, first), peer.store(uid, second)] == [Status.SUCCESS, Status.COERCION]
    assert node.dataset_bytes(uid) == first
    (conflict,) = node.store.series.conflicts()
    assert conflict.sop_instance_uid == uid
    assert node.store.objects.read_dataset_bytes(conflict.digest) == second
    assert [record.levelname for record in caplog.records if "set aside" in record.message] == ["WARNING"]


def test_a_data_set_of_another_instance_is_a_mismatch(node: ListeningNode, instances: list[tuple[str, bytes]]) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        assert peer.store("2.25.999", instances[0][1]) == Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS
    assert node.instances() == []


def test_a_data_set_of_another_class_is_a_mismatch(node: ListeningNode) -> None:
    def to_mr(ds: Dataset) -> None:
        ds.SOPClassUID = MRImageStorage

    uid, data_set = uid_and_data_set(ct_series(n_slices=1, rows=16)[0].edited(to_mr))
    with RawPeer(node.port) as peer:
        peer.associate()
        assert peer.store(uid, data_set) == Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS


@pytest.mark.filterwarnings("ignore:Expected explicit VR:UserWarning")
@pytest.mark.parametrize("data_set", [b"", b"\x00" * 500, b"\xff" * 500, b"no data set at all"])
def test_an_unreadable_data_set_is_refused_and_the_association_goes_on(
    node: ListeningNode, instances: list[tuple[str, bytes]], data_set: bytes
) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        assert peer.store("2.25.5", data_set) == Status.CANNOT_UNDERSTAND
        assert peer.store(*instances[0]) == Status.SUCCESS
    assert len(node.instances()) == 1


@pytest.mark.parametrize(
    ("request_set", "status"),
    [
        (store_command("2.25.1", sop_class_uid=MRImageStorage), Status.SOP_CLASS_NOT_SUPPORTED),
        (store_command("2.25.1", sop_class_uid="1.2.840.10008.1.1"), Status.SOP_CLASS_NOT_SUPPORTED),
        (_store_command_of("../../etc/passwd"), Status.INVALID_SOP_INSTANCE),
        (_store_command_of("1.2." + "3" * 70), Status.INVALID_SOP_INSTANCE),
        (_store_command_of(""), Status.INVALID_SOP_INSTANCE),
    ],
    ids=["other-class", "verification", "path", "long-uid", "no-uid"],
)
def test_a_request_that_cannot_be_kept_is_refused_after_its_data_set(
    node: ListeningNode, instances: list[tuple[str, bytes]], request_set: bytes, status: Status
) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(p_data((3, 3, request_set), (3, 0, instances[0][1][:100]), (3, 2, instances[0][1][100:])))
        assert peer.status() == status
        assert peer.store(*instances[0]) == Status.SUCCESS


def test_a_request_without_a_data_set_is_refused_at_once(node: ListeningNode) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(p_data((3, 3, store_command("2.25.1", has_data_set=False))))
        assert peer.status() == Status.CANNOT_UNDERSTAND


def test_below_the_watermark_nothing_is_taken(start_node: StartNode, instances: list[tuple[str, bytes]]) -> None:
    with start_node(min_free_bytes=2**62) as node, RawPeer(node.port) as peer:
        peer.associate()
        assert peer.store(*instances[0]) == Status.OUT_OF_RESOURCES
        assert peer.release() == PduType.RELEASE_RP
        assert node.instances() == []


def test_an_object_over_the_limit_is_refused_and_deleted_before_its_end(
    start_node: StartNode, instances: list[tuple[str, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    with start_node(max_object_bytes=2**20) as node, RawPeer(node.port) as peer:
        peer.associate()
        peer.send(p_data((3, 3, store_command("2.25.7"))))
        for _ in range(11):
            peer.send(p_data((3, 0, bytes(100_000))))
        _wait(lambda: any("more than 1048576 bytes" in record.getMessage() for record in caplog.records))
        assert list(node.store.objects.spool_folder.iterdir()) == []
        peer.send(p_data((3, 2, bytes(100_000))))
        assert peer.status() == Status.TOO_LARGE
        assert peer.store(*instances[0]) == Status.SUCCESS
        assert len(node.instances()) == 1


def test_an_object_just_at_the_limit_is_taken(start_node: StartNode) -> None:
    (instance,) = ct_series(n_slices=1, rows=724, columns=723)
    uid, data_set = uid_and_data_set(instance)
    assert 2**20 - 5000 < len(data_set) < 2**20
    padding = 2**20 - len(data_set) - 12
    data_set += struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, padding) + bytes(padding)
    with start_node(max_object_bytes=2**20) as node, RawPeer(node.port) as peer:
        peer.associate(max_pdu_bytes=0)
        peer.send(p_data((3, 3, store_command(uid))))
        for offset in range(0, len(data_set), 100_000):
            last = 2 if offset + 100_000 >= len(data_set) else 0
            peer.send(p_data((3, last, data_set[offset : offset + 100_000])))
        assert peer.status() == Status.SUCCESS
        assert node.dataset_bytes(uid) == data_set


@pytest.mark.parametrize("sop_class_uid", [CTImageStorage, MRImageStorage], ids=["too-large", "refused-at-once"])
def test_a_message_that_never_ends_is_aborted(start_node: StartNode, sop_class_uid: str) -> None:
    with start_node(max_object_bytes=2**20) as node, RawPeer(node.port) as peer:
        peer.associate()
        peer.send(p_data((3, 3, store_command("2.25.7", sop_class_uid=sop_class_uid))))

        def can_send() -> bool:
            try:
                peer.send(p_data((3, 0, bytes(100_000))))
            except OSError:
                return False
            return True

        _wait(lambda: not can_send())
        assert not can_send()
        _wait(lambda: node.server.n_associations == 0)
        assert node.server.n_associations == 0
        assert list(node.store.objects.spool_folder.iterdir()) == []


def test_a_disk_that_fills_within_an_object_refuses_it_and_deletes_it_before_its_end(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dicom_node.dimse.store_service.SPACE_CHECK_BYTES", 300_000)
    with start_node(min_free_bytes=1000) as node, RawPeer(node.port) as peer:
        peer.associate()
        peer.send(p_data((3, 3, store_command("2.25.7")), (3, 0, bytes(100_000))))
        _wait(lambda: any(path.stat().st_size > 100_000 for path in node.store.objects.spool_folder.iterdir()))
        monkeypatch.setattr(node.store.objects, "free_bytes", lambda: 999)
        for _ in range(4):
            peer.send(p_data((3, 0, bytes(100_000))))
        _wait(lambda: any("instance not kept" in record.getMessage() for record in caplog.records))
        assert list(node.store.objects.spool_folder.iterdir()) == []
        peer.send(p_data((3, 2, bytes(100_000))))
        assert peer.status() == Status.OUT_OF_RESOURCES


def test_a_disk_that_fails_while_an_instance_comes_is_out_of_resources(
    node: ListeningNode, instances: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_spool: Spool, _fragment: memoryview) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with RawPeer(node.port) as peer:
        peer.associate()
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "write", failing)
            assert peer.store(*instances[0]) == Status.OUT_OF_RESOURCES
        assert peer.store(*instances[0]) == Status.SUCCESS


def test_a_defect_of_ours_is_a_processing_failure_and_is_logged(
    node: ListeningNode,
    instances: list[tuple[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("defect")

    with RawPeer(node.port) as peer:
        peer.associate()
        with monkeypatch.context() as patch:
            patch.setattr(node.store.inbox, "keep", broken)
            assert peer.store(*instances[0]) == Status.PROCESSING_FAILURE
        assert peer.store(*instances[1]) == Status.SUCCESS
    assert any(record.exc_info and "defect" in str(record.exc_info[1]) for record in caplog.records)


@pytest.mark.parametrize("ending", [ABORT, b""], ids=["abort", "closed"])
def test_what_came_before_an_abort_is_kept_and_the_half_is_not(
    node: ListeningNode, instances: list[tuple[str, bytes]], tmp_path: Path, ending: bytes
) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        assert [peer.store(*instance) for instance in instances[:2]] == [0, 0]
        uid, data_set = instances[2]
        peer.send(p_data((3, 3, store_command(uid)), (3, 0, data_set[:-10])))
        peer.send(ending)
    _wait(lambda: node.server.n_associations == 0)
    assert {row.sop_instance_uid for row in node.instances()} == {uid for uid, _ in instances[:2]}
    with RawPeer(node.port) as peer:
        peer.associate()
        assert peer.store(*instances[2]) == Status.SUCCESS


def test_a_stop_finishes_what_is_on_its_way_and_turns_the_rest_away(
    start_node: StartNode, instances: list[tuple[str, bytes]]
) -> None:
    with start_node() as node, RawPeer(node.port) as busy, RawPeer(node.port) as idle:
        busy.associate()
        idle.associate()
        uid, data_set = instances[0]
        busy.send(p_data((3, 3, store_command(uid)), (3, 0, data_set[:100])))
        time.sleep(1.0)  # the node has read that
        stopper = threading.Thread(target=node.server.stop)
        stopper.start()
        assert idle.receive()[0] == PduType.ABORT
        busy.send(p_data((3, 2, data_set[100:])))
        assert busy.status() == Status.SUCCESS
        assert busy.receive()[0] == PduType.ABORT
        stopper.join(60)
        assert not stopper.is_alive()
        assert node.dataset_bytes(uid) == data_set


def test_a_stop_does_not_wait_longer_than_its_grace(start_node: StartNode, instances: list[tuple[str, bytes]]) -> None:
    with start_node() as node, RawPeer(node.port) as stuck:
        stuck.associate()
        stuck.send(p_data((3, 3, store_command(instances[0][0])), (3, 0, b"half")))
        time.sleep(0.2)
        began = time.monotonic()
        node.server.stop(grace_s=0.3)
        assert time.monotonic() - began < 30
        assert node.instances() == []


def test_a_stop_does_not_wait_for_a_connection_that_says_nothing(start_node: StartNode) -> None:
    with start_node(artim_timeout_s=60.0) as node, RawPeer(node.port):
        time.sleep(0.1)
        began = time.monotonic()
        node.server.stop()
        assert time.monotonic() - began < 30


def test_an_address_that_is_taken_is_named(node: ListeningNode, start_node: StartNode) -> None:
    server = DimseServer(node.store, DimseSettings(host="127.0.0.1", port=node.port), ae_title="SECOND")
    with pytest.raises(ListenError) as caught:
        server.start()
    said = f"cannot listen on 127.0.0.1:{node.port}: Address already in use; stop what uses it"
    assert str(caught.value).startswith(said)


def test_a_name_that_is_no_address_is_named(node: ListeningNode) -> None:
    server = DimseServer(node.store, DimseSettings(host="no such host", port=0), ae_title="SECOND")
    with pytest.raises(ListenError, match=r"cannot listen on no such host:0: [A-Z][^\n]*; stop"):
        server.start()


def _wait(condition: object, timeout_s: float = 60.0) -> None:
    end_at = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end_at:  # type: ignore[operator]
        time.sleep(0.01)

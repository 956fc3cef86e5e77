"""An index that another writer holds: senders get an answer before they give up, and nothing piles up meanwhile."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.dimse.status import Status
from tests.dimse.listening_node import ListeningNode
from tests.dimse.raw_peer import RawPeer, dataset_part
from tests.factories import EncodedInstance, ct_series

ANSWER_S = 5.0
LATE_S = 10.0  # more for a busy machine


@contextmanager
def locked(node: ListeningNode) -> Iterator[None]:
    """Hold the index's write lock, as a writer in another process would."""
    path = node.store.data_dir / "index.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        yield
        writer.execute("ROLLBACK")


def send(node: ListeningNode, instance: EncodedInstance) -> tuple[int, float]:
    """Status of a C-STORE, and after how many seconds it came."""
    with RawPeer(node.port) as peer:
        peer.associate()
        began = time.monotonic()
        status = peer.store(instance.dataset().SOPInstanceUID, dataset_part(instance.part10))
        return status, time.monotonic() - began


def spooled(node: ListeningNode) -> list[Path]:
    return list(node.store.objects.spool_folder.iterdir())


def test_a_sender_is_told_to_come_back_within_five_seconds(node: ListeningNode) -> None:
    (instance,) = ct_series(n_slices=1, rows=16)
    with locked(node):
        status, elapsed_s = send(node, instance)
        assert status == Status.OUT_OF_RESOURCES
        assert elapsed_s < ANSWER_S + LATE_S
    assert send(node, instance)[0] == Status.SUCCESS
    assert len(node.instances()) == 1


def test_many_senders_at_once_wait_no_longer_than_one(node: ListeningNode) -> None:
    instances = ct_series(n_slices=12, rows=16)
    with locked(node), ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda instance: send(node, instance), instances))
    assert {status for status, _ in answers} == {Status.OUT_OF_RESOURCES}
    assert max(elapsed_s for _, elapsed_s in answers) < ANSWER_S + LATE_S
    assert node.instances() == []


def test_who_came_late_still_gets_in_when_the_lock_goes(node: ListeningNode) -> None:
    early, late, latest = ct_series(n_slices=3, rows=16)
    with ThreadPoolExecutor(3) as pool:
        with locked(node):
            first = pool.submit(send, node, early)
            time.sleep(2.5)
            others = [pool.submit(send, node, instance) for instance in (late, latest)]
            assert first.result()[0] == Status.OUT_OF_RESOURCES
        assert [other.result()[0] for other in others] == [Status.SUCCESS, Status.SUCCESS]
    assert len(node.instances()) == 2


def test_a_sender_that_repeats_itself_meanwhile_fills_no_disk(node: ListeningNode) -> None:
    (instance,) = ct_series(n_slices=1, rows=16)
    with locked(node):
        assert [send(node, instance)[0] for _ in range(2)] == [Status.OUT_OF_RESOURCES] * 2
        (leftover,) = spooled(node)  # it tells the next start of an object without a row
        assert leftover.stat().st_nlink == 2
    assert send(node, instance)[0] == Status.SUCCESS


def test_other_writers_of_the_node_are_as_patient_as_before(node: ListeningNode) -> None:
    done = threading.Event()

    def write() -> None:
        node.store.audit.record("waits", actor="tester", subject="index", now=datetime.now(UTC))
        done.set()

    writer = threading.Thread(target=write)
    with locked(node):
        writer.start()
        assert not done.wait(5.5)
    writer.join(60)
    assert done.is_set()

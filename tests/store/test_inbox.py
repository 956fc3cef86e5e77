"""What success means to a sender, and what becomes of repeats, conflicts and nonsense."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.store import (
    IndexUnavailableError,
    Kept,
    MismatchedInstanceError,
    NotFoundError,
    StorageFullError,
    Store,
    UnreadableInstanceError,
)
from tests.new_store import StoreMaker
from tests.store.sending import ONLY_SQLITE, SERIES, STUDY, instance, keep, spooled


def object_files(store: Store) -> list[Path]:
    return [path for path in store.objects.folder.rglob("*") if path.is_file()]


def spool_files(store: Store) -> list[Path]:
    return list(store.objects.spool_folder.iterdir())


def test_the_bytes_come_back_exactly_and_as_a_part_10_file(store: Store) -> None:
    sent = instance(5, n_pixel_bytes=300_000)
    assert keep(store, sent) is Kept.STORED
    (row,) = store.series.instances(SERIES)
    assert store.objects.read_dataset_bytes(row.digest) == sent.encoded
    with store.objects.open(row.digest) as file:
        ds = dcmread(file)
    assert ds.file_meta.MediaStorageSOPInstanceUID == sent.uid
    assert ds.file_meta.TransferSyntaxUID == sent.arrival.transfer_syntax_uid
    assert ds.InstanceNumber == 5
    assert (row.dataset_bytes, row.calling_ae_title, row.instance_number) == (len(sent.encoded), "SENDER", 5)
    assert row.received_at == sent.arrival.received_at
    assert spool_files(store) == []


def test_a_dataset_in_many_fragments_is_one_object(store: Store) -> None:
    sent = instance(n_pixel_bytes=200_000)
    whole = spooled(store, sent)
    pieces = store.objects.spool(
        sop_class_uid=sent.arrival.sop_class_uid,
        sop_instance_uid=sent.uid,
        transfer_syntax_uid=sent.arrival.transfer_syntax_uid,
    )
    view = memoryview(sent.encoded)
    for start in range(0, len(view), 1021):
        pieces.write(view[start : start + 1021])
    assert pieces.sha256() == whole.sha256()
    assert pieces.path.read_bytes() == whole.path.read_bytes()
    pieces.discard()
    whole.discard()
    assert spool_files(store) == []


def test_the_same_bytes_again_change_nothing(store: Store) -> None:
    keep(store, instance())
    before = (store.series.get(SERIES), store.series.instances(SERIES))
    assert keep(store, instance()) is Kept.DUPLICATE
    assert (store.series.get(SERIES), store.series.instances(SERIES)) == before
    assert len(object_files(store)) == 1
    assert spool_files(store) == []


def test_other_bytes_under_a_known_uid_are_a_recorded_conflict_and_the_first_stays(store: Store) -> None:
    first, other = instance(), instance(PatientID="P2")
    keep(store, first)
    assert keep(store, other) is Kept.CONFLICT
    (row,) = store.series.instances(SERIES)
    (conflict,) = store.series.conflicts()
    assert store.objects.read_dataset_bytes(row.digest) == first.encoded
    assert store.objects.read_dataset_bytes(conflict.digest) == other.encoded
    assert (conflict.reason, conflict.stored_digest) == ("other-bytes", row.digest)
    assert keep(store, other) is Kept.CONFLICT
    assert store.series.n_conflicts() == 1  # a sender that repeats it adds nothing
    assert store.series.get(SERIES).n_instances == 1


def test_the_same_bytes_under_a_private_transfer_syntax_are_another_content(store: Store) -> None:
    sent = instance()
    keep(store, sent)
    relabelled = replace(sent, arrival=replace(sent.arrival, transfer_syntax_uid="1.2.840.113619.5.2"))
    assert keep(store, relabelled) is Kept.CONFLICT


def test_a_series_uid_in_a_second_study_is_a_conflict_with_its_bytes_kept(store: Store) -> None:
    keep(store, instance(1))
    stray = instance(2, study="1.2.99")
    assert keep(store, stray) is Kept.CONFLICT
    (conflict,) = store.series.conflicts()
    assert conflict.reason == "series-in-other-study"
    assert store.objects.read_dataset_bytes(conflict.digest) == stray.encoded
    assert store.series.get(SERIES).study_instance_uid == STUDY


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"SeriesInstanceUID": None}, "SeriesInstanceUID is missing"),
        ({"StudyInstanceUID": ""}, "StudyInstanceUID is missing"),
        ({"SeriesInstanceUID": "1." + "2" * 64}, "a UID expected"),
    ],
)
def test_an_instance_without_its_uids_is_refused_with_the_reason(store: Store, attributes: dict, words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom writes an invalid UID, and says so
        sent = instance(**attributes)
    with pytest.raises(UnreadableInstanceError, match=words):
        keep(store, sent)
    assert object_files(store) == spool_files(store) == []
    assert store.series.list() == ()


def test_a_uid_never_becomes_a_path(store: Store) -> None:
    sent = instance()
    hostile = "../../../"
    encoded = sent.encoded.replace(sent.uid.encode(), hostile.encode())
    with pytest.raises(UnreadableInstanceError, match=r"SOPInstanceUID is '\.\./\.\./\.\./', a UID expected"):
        keep(store, replace(sent, encoded=encoded, arrival=replace(sent.arrival, sop_instance_uid=hostile)))
    assert object_files(store) == spool_files(store) == []


def test_a_dataset_that_is_not_what_was_announced_is_refused(store: Store) -> None:
    sent = instance(1)
    with pytest.raises(
        MismatchedInstanceError, match=r"SOPInstanceUID is 1\.2\.3\.4\.1 in the dataset, 1\.2\.3\.4\.9 was"
    ):
        keep(store, replace(sent, arrival=replace(sent.arrival, sop_instance_uid="1.2.3.4.9")))
    assert object_files(store) == []


def test_random_bytes_are_refused(store: Store) -> None:
    with pytest.raises(UnreadableInstanceError):
        keep(store, replace(instance(), encoded=b"\x89PNG" * 5000))


def test_a_dataset_in_another_encoding_than_announced_is_kept_under_its_own(store: Store) -> None:
    sent = instance()
    implicit = replace(sent, arrival=replace(sent.arrival, transfer_syntax_uid=ImplicitVRLittleEndian))
    assert keep(store, implicit) is Kept.STORED
    (row,) = store.series.instances(SERIES)
    assert row.transfer_syntax_uid == ExplicitVRLittleEndian
    assert store.objects.read_dataset_bytes(row.digest) == sent.encoded
    with store.objects.open(row.digest) as file:
        assert dcmread(file).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert list(store.objects.spool_folder.iterdir()) == []


def test_under_the_watermark_nothing_is_taken_and_the_error_says_what_is_free(
    new_store: StoreMaker, tmp_path: Path
) -> None:
    with new_store(tmp_path, min_free_bytes=2**62) as store:
        with pytest.raises(StorageFullError, match=r"\d+\.\d\d GB free, dimse.min_free_bytes asks for 4611686018"):
            keep(store, instance())
        assert spool_files(store) == object_files(store) == []


def test_a_hundred_senders_at_once_share_their_commits(store: Store) -> None:
    with ThreadPoolExecutor(100) as pool:
        with store._database.write():  # a long transaction of another process: all hundred have to wait for it
            answers = [pool.submit(keep, store, instance(number)) for number in range(1, 101)]
            while store.inbox.n_object_syncs < 100:
                threading.Event().wait(0.01)
        assert [answer.result() for answer in answers] == [Kept.STORED] * 100
    assert store.series.get(SERIES).n_instances == 100
    assert store.inbox.n_commits <= 2  # the one that was under way, and all others


def test_a_single_sender_gets_a_commit_of_its_own_at_once(store: Store) -> None:
    for number in range(1, 4):
        keep(store, instance(number))
        assert store.inbox.n_commits == number


@ONLY_SQLITE
def test_one_instance_that_the_index_refuses_does_not_take_its_batch_with_it(store: Store) -> None:
    with store._database.write() as connection:
        connection.execute(
            sa.text(
                "CREATE TRIGGER refuse BEFORE INSERT ON instances WHEN NEW.instance_number = 3 "
                "BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
            )
        )
    with ThreadPoolExecutor(8) as pool:
        with store._database.write():
            answers = [pool.submit(keep, store, instance(number)) for number in range(1, 9)]
            while store.inbox.n_object_syncs < 8:
                threading.Event().wait(0.01)
        failures = [answer.exception() for answer in answers]
    assert [number for number, failure in enumerate(failures, 1) if failure] == [3]
    assert "refused by the test" in str(failures[2])
    assert sorted(row.instance_number for row in store.series.instances(SERIES)) == [1, 2, 4, 5, 6, 7, 8]


@ONLY_SQLITE
def test_after_a_refusal_by_the_index_the_same_instance_can_come_again(store: Store) -> None:
    trigger = "CREATE TRIGGER refuse BEFORE INSERT ON instances BEGIN SELECT RAISE(ABORT, 'no'); END"
    with store._database.write() as connection:
        connection.execute(sa.text(trigger))
    with pytest.raises(sqlite3.IntegrityError):
        keep(store, instance())
    with store._database.write() as connection:
        connection.execute(sa.text("DROP TRIGGER refuse"))
    assert keep(store, instance()) is Kept.STORED


def test_two_stores_on_one_folder_agree_on_who_was_first(store: Store, new_store: StoreMaker) -> None:
    with new_store.again(store.data_dir) as second, ThreadPoolExecutor(2) as pool:
        for number in range(1, 11):
            answers = pool.map(keep, (store, second), (instance(number), instance(number)))
            assert sorted(answers) == [Kept.DUPLICATE, Kept.STORED]
        assert second.series.get(SERIES).n_instances == 10


@pytest.mark.parametrize(
    ("number", "f_favail", "said"),
    [
        (errno.ENOSPC, 5, r"the file system is full \(\d+\.\d\d GB free\)"),
        (errno.ENOSPC, 0, r"no inodes are left \(\d+\.\d\d GB free\)"),
        (errno.EDQUOT, 5, r"the quota of the node's user is used up \(\d+\.\d\d GB free for others\)"),
    ],
)
def test_a_disk_without_space_says_what_is_used_up_and_keeps_no_file_open(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, f_favail: int, said: str
) -> None:
    n_open = len(list(Path("/proc/self/fd").iterdir()))

    def refuse(_fd: int, _data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    status = os.statvfs(store.data_dir)
    fields = {name: getattr(status, name) for name in ("f_bavail", "f_frsize")} | {"f_files": 9, "f_favail": f_favail}
    with monkeypatch.context() as full:
        full.setattr(os, "write", refuse)
        full.setattr(os, "statvfs", lambda _folder: SimpleNamespace(**fields))
        with pytest.raises(StorageFullError, match=said):
            spooled(store, instance())
    assert spool_files(store) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == n_open


def test_a_disk_that_cannot_sync_is_no_success_and_leaves_no_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(store, instance(1))

    def fail(_spool: object) -> None:
        raise OSError(5, "Input/output error")

    bad = spooled(store, instance(2))
    with monkeypatch.context() as broken:
        broken.setattr(type(bad), "sync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            store.inbox.keep(bad, instance(2).arrival)
    assert [row.instance_number for row in store.series.instances(SERIES)] == [1]
    assert store.series.get(SERIES).n_instances == 1
    assert len(object_files(store)) == 1
    assert keep(store, instance(2)) is Kept.STORED


def test_an_instance_that_retention_deletes_while_it_comes_again_is_kept(store: Store) -> None:
    sent = instance()
    keep(store, sent)
    (row,) = store.series.instances(SERIES)
    with ThreadPoolExecutor(1) as pool:
        with store._database.write() as connection:
            again = pool.submit(keep, store, sent)
            while store.inbox.n_object_syncs < 2:  # it has found the object in place, and waits for the index
                threading.Event().wait(0.01)
            connection.execute(sa.text("DELETE FROM instances"))
            store.objects.remove(row.digest)
        assert again.result() is Kept.STORED
    assert store.objects.read_dataset_bytes(row.digest) == sent.encoded


def test_an_object_whose_bytes_rotted_is_repaired_by_the_same_instance(store: Store) -> None:
    sent = instance()
    keep(store, sent)
    (path,) = object_files(store)
    path.chmod(0o640)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert keep(store, sent) is Kept.DUPLICATE
    (row,) = store.series.instances(SERIES)
    assert store.objects.read_dataset_bytes(row.digest) == sent.encoded


@ONLY_SQLITE
def test_an_index_that_does_not_answer_is_transient(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(store.data_dir) as second:
        monkeypatch.setattr(second.inbox, "_database", second._database)
        with second._database._engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 1")
        with store._database.write(), pytest.raises(IndexUnavailableError, match="database is locked"):
            keep(second, instance())
    with pytest.raises(NotFoundError, match=f"series {SERIES}: not in the index"):
        store.series.get(SERIES)

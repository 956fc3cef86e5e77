"""What every store of objects does: on local disk, in a bucket of a stand-in, and in one of a real server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom import dcmread

from dicom_node.store import Kept, ObjectDamagedError, ObjectMissingError, Store, read_checked
from dicom_node.store.integrity import Fault, Finding
from tests.store.crashing import outcome
from tests.store.object_stores.conftest import damage, forget_copies, lose, put, verify
from tests.store.sending import SERIES, STUDY, T0, closing, instance, keep, received_series


def digest_of(store: Store, number: int = 0) -> str:
    return store.series.instances(SERIES)[number].digest


def flip_last_bit(encoded: bytes) -> bytes:
    return encoded[:-1] + bytes([encoded[-1] ^ 1])


def test_the_bytes_come_back_exactly_and_as_a_part_10_file(store: Store) -> None:
    sent = instance(5, n_pixel_bytes=300_000)
    assert keep(store, sent) is Kept.STORED
    forget_copies(store)
    (row,) = store.series.instances(SERIES)
    assert store.objects.read_dataset_bytes(row.digest) == sent.encoded
    with store.objects.open(row.digest, dataset_bytes=row.dataset_bytes) as file:
        ds = dcmread(file)
        assert file.fileno() > 0  # readers map it
    assert ds.file_meta.MediaStorageSOPInstanceUID == sent.uid
    with store.objects.stored(row.digest) as stored:
        assert stored.dataset_bytes == len(sent.encoded)
    store.objects.check(row.digest)
    assert store.objects.is_sound(row.digest)
    assert list(store.objects.spool_folder.iterdir()) == []


def test_the_same_bytes_again_change_nothing_and_other_bytes_are_a_conflict(store: Store) -> None:
    keep(store, instance())
    assert keep(store, instance()) is Kept.DUPLICATE
    assert keep(store, instance(PatientID="P2")) is Kept.CONFLICT
    forget_copies(store)
    (row,), (conflict,) = store.series.instances(SERIES), store.series.conflicts()
    assert store.objects.read_dataset_bytes(row.digest) == instance().encoded
    assert store.objects.read_dataset_bytes(conflict.digest) == instance(PatientID="P2").encoded
    assert verify(store) == []


def test_many_threads_bring_the_same_and_other_instances(store: Store) -> None:
    sent = [instance(number) for number in range(1, 9)] * 2
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: keep(store, one), sent))
    assert sorted(answers) == sorted([Kept.STORED] * 8 + [Kept.DUPLICATE] * 8)
    assert verify(store) == []


def test_a_damaged_object_is_found_is_not_used_and_is_replaced_when_it_is_sent_again(store: Store) -> None:
    keep(store, instance())
    digest = digest_of(store)
    damage(store, digest, flip_last_bit)
    forget_copies(store)
    (finding,) = verify(store)
    assert (finding.fault, finding.path) == (Fault.DAMAGED, store.objects.location(digest))
    assert finding.reason.startswith("has the SHA-256 ")
    with pytest.raises(ObjectDamagedError):
        store.objects.check(digest)
    with pytest.raises(ObjectDamagedError):
        list(read_checked(store.objects, digest, chunk_bytes=100))
    assert not store.objects.is_sound(digest)
    assert keep(store, instance()) is Kept.DUPLICATE
    assert verify(store) == []
    assert store.objects.read_dataset_bytes(digest) == instance().encoded


def test_what_was_set_aside_is_not_served_until_it_is_sent_again(store: Store) -> None:
    keep(store, instance())
    digest = digest_of(store)
    damage(store, digest, flip_last_bit)
    store.integrity.set_aside(digest)
    forget_copies(store)
    (finding,) = verify(store)
    assert finding.fault is Fault.MISSING
    assert "was set aside" in finding.reason
    with pytest.raises((ObjectDamagedError, ObjectMissingError), match="was set aside"):
        store.objects.open(digest)
    assert keep(store, instance()) is Kept.DUPLICATE
    assert store.objects.read_dataset_bytes(digest) == instance().encoded
    assert [(one.fault, one.reason) for one in verify(store)] == [
        (Fault.EXTRA, "was set aside as damaged; a sound copy took its place")
    ]


@pytest.mark.parametrize("n_bytes", [0, 100, 1000])
def test_a_shortened_object_is_damaged(store: Store, n_bytes: int) -> None:
    keep(store, instance())
    row = store.series.instances(SERIES)[0]
    damage(store, row.digest, lambda encoded: encoded[:n_bytes])
    forget_copies(store)
    assert [finding.fault for finding in verify(store)] == [Fault.DAMAGED]
    with pytest.raises(ObjectDamagedError), store.objects.open(row.digest, dataset_bytes=row.dataset_bytes):
        pass


def test_a_lost_object_is_missing(store: Store) -> None:
    keep(store, instance())
    digest = digest_of(store)
    lose(store, digest)
    forget_copies(store)
    location = store.objects.location(digest)
    assert verify(store) == [Finding(Fault.MISSING, digest, location, "is missing", (instance().uid,))]
    with pytest.raises(ObjectMissingError):
        store.objects.open(digest)
    assert keep(store, instance()) is Kept.DUPLICATE
    assert verify(store) == []


def test_what_no_row_names_is_extra_unless_it_is_new(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(store, instance())
    stray = "ab" * 32
    put(store, stray, b"bytes")
    if not store.objects.is_local:
        assert verify(store) == []  # it may be on its way into the index
        monkeypatch.setattr("dicom_node.store.objects.s3.objects.SETTLED_S", 0.0)
    reason = "no row of the index names it"
    assert verify(store) == [Finding(Fault.EXTRA, stray, store.objects.location(stray), reason)]


def test_deleting_sources_deletes_objects_and_what_was_computed_from_them(store: Store) -> None:
    keep(store, instance(1))
    keep(store, instance(2))
    keep(store, instance(1, study="1.9", series="1.9.1", SOPInstanceUID="1.9.1.1"))
    digests = [row.digest for row in store.series.instances(SERIES)]
    store.objects.keep_derived(digests[0], b"form", b"computed")
    assert store.objects.read_derived(digests[0], b"form") == b"computed"
    store.erasure.delete(STUDY, reason="withdrawn", decided_by="A. Example", now=T0)
    assert not any(store.objects.exists(digest) for digest in digests)
    for digest in digests:
        with pytest.raises(ObjectMissingError):
            store.objects.open(digest)
    assert list(store.objects.spool_folder.iterdir()) == []
    assert verify(store) == []


def test_what_was_deleted_can_be_sent_again_at_once(store: Store) -> None:
    keep(store, instance())
    digest = digest_of(store)
    store.erasure.delete(STUDY, reason="withdrawn", decided_by="A. Example", now=T0)
    assert keep(store, instance()) is Kept.STORED
    forget_copies(store)
    assert store.objects.read_dataset_bytes(digest) == instance().encoded
    assert verify(store) == []
    store.erasure.delete(STUDY, reason="withdrawn", decided_by="A. Example", now=T0)
    assert not store.objects.exists(digest)


def test_objects_that_are_sent_while_they_are_deleted_are_never_lost(store: Store) -> None:
    """Two threads send the same instance as fast as they can, and one deletes it: who was told `stored` finds it."""
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            keep(store, instance())

    def delete() -> None:
        for _ in range(6):
            if store.series.list():
                store.erasure.delete(STUDY, reason="withdrawn", decided_by="A. Example", now=T0)
        stop.set()

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(send), pool.submit(send), pool.submit(delete)]:
            done.result()
    keep(store, instance())
    forget_copies(store)
    assert store.objects.read_dataset_bytes(digest_of(store)) == instance().encoded
    assert verify(store) == []


def test_results_of_jobs_are_objects_too(store: Store) -> None:
    row = received_series(store)
    assert store.closing.complete(row, closing(), T0)
    (job,) = store.jobs.list(series_instance_uid=SERIES)
    assert store.jobs.claim("w1", T0, 60.0, pipeline_digest="d1") is not None
    (result, *_) = store.jobs.succeed(job.id, "w1", outcome(1), T0)
    forget_copies(store)
    (found,) = store.search.find_instances(sop_instance_uid=result.sop_instance_uid)
    with store.objects.open(found.digest, dataset_bytes=found.dataset_bytes) as file:
        assert dcmread(file).SOPInstanceUID == result.sop_instance_uid
    assert verify(store) == []
    assert list(store.objects.spool_folder.iterdir()) == []

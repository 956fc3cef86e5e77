"""What lies on disk, compared with the index: bit rot, lost files, strangers; and what a node under load shows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.store import Kept, ObjectDamagedError, ObjectMissingError, Store, integrity
from dicom_node.store.integrity import N_FOLDERS, Fault, Finding, Pace, Tally
from part10.file_meta import START_BYTES, dataset_offset
from tests.store.sending import SERIES, instance, keep

UID = f"{SERIES}.2"


@pytest.fixture
def path(store: Store) -> Path:
    """File of the second of three instances."""
    for number in (1, 2, 3):
        keep(store, instance(number))
    return store.objects.path(store.series.instances(SERIES)[1].digest)


def verify(store: Store, tally: Tally | None = None) -> list[Finding]:
    return list(_verify(store, tally or Tally()))


def _verify(store: Store, tally: Tally) -> Iterator[Finding]:
    for number in range(N_FOLDERS):
        yield from store.integrity.verify_folder(number, Pace(), tally)


def rot(path: Path, position: int) -> None:
    """Turn one bit around; a negative position counts from the end."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_sound_store_has_no_findings_and_all_was_read(store: Store, path: Path) -> None:
    tally = Tally()
    assert verify(store, tally) == []
    assert (tally.n_objects, tally.n_bytes) == (3, sum(len(instance(n).encoded) for n in (1, 2, 3)))


@pytest.mark.parametrize("position", [-1, -300])
def test_one_flipped_bit_of_the_dataset_is_found(store: Store, path: Path, position: int) -> None:
    rot(path, position)
    (finding,) = verify(store)
    assert (finding.fault, finding.path, finding.sop_instance_uids) == (Fault.DAMAGED, str(path), (UID,))
    assert finding.reason.startswith("has the SHA-256 ")


@pytest.mark.parametrize(
    ("needle", "reason"),
    [
        (b"DICM", "has no preamble and DICM at its beginning"),
        (b"1.2.840.10008.1.2.1", "has another instance or transfer syntax in its file meta information than the index"),
        (UID.encode(), "has another instance or transfer syntax in its file meta information than the index"),
        (b"UL\x04\x00", "has no length of the file meta information, (0002,0000), after the preamble"),
    ],
)
def test_a_flipped_bit_of_the_file_meta_information_is_found(
    store: Store, path: Path, needle: bytes, reason: str
) -> None:
    rot(path, path.read_bytes().index(needle))
    assert [(finding.fault, finding.reason) for finding in verify(store)] == [(Fault.DAMAGED, reason)]


@pytest.mark.parametrize("change", [-1, 1, -(10**6)])
def test_another_length_is_found_and_refused_when_it_is_opened(store: Store, path: Path, change: int) -> None:
    n_bytes = path.stat().st_size
    os.truncate(path, max(START_BYTES, n_bytes + change))
    (finding,) = verify(store)
    expected = f"has {max(START_BYTES, n_bytes + change)} bytes, expected {n_bytes}"
    assert (finding.fault, finding.reason) == (Fault.DAMAGED, expected)
    row = store.series.instances(SERIES)[1]
    with pytest.raises(ObjectDamagedError, match=f"{row.digest[:12]}: its file {expected}; it is not used"):
        store.objects.open(row.digest, dataset_bytes=row.dataset_bytes)
    sound = store.series.instances(SERIES)[0]
    with store.objects.open(sound.digest, dataset_bytes=sound.dataset_bytes) as file:
        assert file.read()[dataset_offset(store.objects.path(sound.digest).read_bytes()) :] == instance(1).encoded


def test_a_file_of_no_bytes_is_damaged(store: Store, path: Path) -> None:
    path.write_bytes(b"")
    assert [finding.fault for finding in verify(store)] == [Fault.DAMAGED]
    row = store.series.instances(SERIES)[1]
    with pytest.raises(ObjectDamagedError):
        store.objects.open(row.digest, dataset_bytes=row.dataset_bytes)
    with pytest.raises(ObjectDamagedError):
        store.objects.check(row.digest)


def test_a_lost_file_is_missing(store: Store, path: Path) -> None:
    path.unlink()
    assert verify(store) == [Finding(Fault.MISSING, path.stem, str(path), "is missing", (UID,))]


def test_a_file_that_no_row_names_is_extra(store: Store, path: Path) -> None:
    stray = store.objects.folder / "ab" / f"{'ab' * 32}.dcm"
    stray.write_bytes(path.read_bytes())
    notes = store.objects.folder / "00" / "notes.txt"
    notes.write_text("?")
    reason = "no row of the index names it"
    assert verify(store) == [Finding(Fault.EXTRA, one.stem, str(one), reason) for one in (notes, stray)]


def test_what_is_being_received_is_not_extra(store: Store, path: Path) -> None:
    stray = store.objects.folder / "ff" / f"{'ff' * 32}.dcm"
    stray.write_bytes(path.read_bytes())
    (store.objects.spool_folder / "1-being-received").hardlink_to(stray)
    assert verify(store) == []


def test_what_retention_deletes_meanwhile_is_no_finding(store: Store, path: Path) -> None:
    """The row goes after the folder was listed in the index and before its file is opened."""
    integrity = store.integrity
    listed = integrity._expected("00", "g")
    with store._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM instances")
    for row in listed:
        store.objects.remove(row)
    assert [integrity.verify(digest, listed[digest], Pace(), Tally()) for digest in listed] == [None] * len(listed)


def test_a_file_that_goes_while_it_is_looked_at_is_not_extra(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = store.objects.folder / "ab" / f"{'ab' * 32}.dcm"
    stray.write_bytes(path.read_bytes())

    def remove_and_ask(_digest: str) -> bool:
        stray.unlink()
        return False

    monkeypatch.setattr(store.integrity, "_is_named", remove_and_ask)
    assert verify(store) == []


def test_a_fault_of_one_read_is_not_the_objects(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter(["0" * 64])  # as a faulty cable has it, once
    read = integrity._sha256
    monkeypatch.setattr(integrity, "_sha256", lambda *arguments: next(digests, None) or read(*arguments))
    assert verify(store) == []


def test_conflicts_are_verified_too(store: Store, path: Path) -> None:
    assert keep(store, instance(2, PatientID="OTHER")) is Kept.CONFLICT
    (conflict,) = store.series.conflicts()
    assert verify(store) == []
    rot(store.objects.path(conflict.digest), -1)
    (finding,) = verify(store)
    assert (finding.digest, finding.sop_instance_uids) == (conflict.digest, (UID,))


def test_what_was_set_aside_is_served_no_more_until_it_is_sent_again(store: Store, path: Path) -> None:
    rot(path, -1)
    row = store.series.instances(SERIES)[1]
    store.integrity.set_aside(row.digest)
    for look in (store.objects.open, store.objects.check):
        with pytest.raises(ObjectDamagedError, match="was set aside, because its bytes have changed"):
            look(row.digest)
    reason = f"was set aside as damaged, as {row.digest}.damaged"
    assert [(finding.fault, finding.reason) for finding in verify(store)] == [(Fault.MISSING, reason)]

    assert keep(store, instance(2)) is Kept.DUPLICATE
    assert store.objects.read_dataset_bytes(row.digest) == instance(2).encoded
    (finding,) = verify(store)
    assert (finding.fault, finding.path.endswith(".damaged")) == (Fault.EXTRA, True)
    store.objects.remove(row.digest)
    with pytest.raises(ObjectMissingError, match=f"^object {row.digest[:12]}: its file is missing; [^/]*$"):
        store.objects.open(row.digest)


def test_what_was_sent_again_while_its_damage_was_read_is_not_set_aside(store: Store, path: Path) -> None:
    rot(path, -1)
    (finding,) = verify(store)
    assert keep(store, instance(2)) is Kept.DUPLICATE  # and has repaired it
    store.integrity.set_aside(finding.digest)
    assert store.objects.read_dataset_bytes(finding.digest) == instance(2).encoded
    assert verify(store) == []


def test_a_damaged_object_that_was_not_set_aside_is_replaced_as_well(store: Store, path: Path) -> None:
    rot(path, -1)
    row = store.series.instances(SERIES)[1]
    with pytest.raises(ObjectDamagedError, match="has the SHA-256"):
        store.objects.check(row.digest)
    assert keep(store, instance(2)) is Kept.DUPLICATE
    store.objects.check(row.digest)
    assert verify(store) == []


def test_reading_is_held_to_a_rate() -> None:
    pace = Pace(max_bytes_per_s=1000.0)
    began = time.monotonic()
    for _ in range(10):
        pace.spend(20)
    assert 0.19 < time.monotonic() - began < 20
    free = Pace()
    free.spend(10**12)
    assert time.monotonic() - began < 20

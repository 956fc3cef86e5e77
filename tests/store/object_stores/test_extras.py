"""Objects that no row names go when they are asked to, and nothing else does, also while instances come in."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from dicom_node.store import Kept, Store
from dicom_node.store.errors import TooManyExtraError
from dicom_node.store.integrity import N_FOLDERS
from dicom_node.store.objects.object_store import Listed, ListedKind
from dicom_node.store.objects.s3.objects import S3Objects
from dicom_node.store.objects.spool import Spool
from tests.store.object_stores.conftest import damage, forget_copies, verify
from tests.store.sending import T0, Sent, instance, keep

pytestmark = pytest.mark.slow
DAY_S = 86400.0


@pytest.fixture(autouse=True)
def _any_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is in the bucket count as settled at once, so that age alone keeps it."""
    monkeypatch.setattr("dicom_node.store.objects.s3.objects.SETTLED_S", -DAY_S)


def find(store: Store, *, min_age_s: float = -DAY_S) -> list[Listed]:
    if isinstance(store.objects, S3Objects):  # to list each folder takes a server a while
        folders = {int(found.key.split("/")[1], 16) for found in store.objects.bucket.listed("objects/")}
    else:
        folders = set(range(N_FOLDERS))
    return [one for number in sorted(folders) for one in store.extras.find(number, min_age_s=min_age_s)]


def leave_extra(store: Store, sent: Sent) -> str:
    """Store an object and give it no row, as a host does that is lost with its disk."""
    with spooled(store, sent) as spool:
        digest = spool.sha256()
        store.objects.link(spool, digest)
        store.objects.sync(spool, digest)
    return digest


def spooled(store: Store, sent: Sent) -> Spool:
    spool = store.objects.spool(
        sop_class_uid=sent.arrival.sop_class_uid,
        sop_instance_uid=sent.arrival.sop_instance_uid,
        transfer_syntax_uid=sent.arrival.transfer_syntax_uid,
    )
    spool.write(sent.encoded)
    return spool


def test_extra_objects_are_found_and_removed_and_the_others_stay(store: Store) -> None:
    for number in range(5):
        keep(store, instance(number))
    keep(store, instance(0, PatientName="Other^Person"))  # a conflict refers to its object
    extra = {leave_extra(store, instance(number)) for number in (50, 51)}
    found = find(store)
    assert {one.digest for one in found} == extra
    assert all(one.n_bytes > 512 and abs(one.age_s) < 60 for one in found)
    assert store.extras.remove(found, by="admin", now=T0) == 2
    assert find(store) == []
    assert verify(store) == []
    (entry,) = store.audit.list(action="extra-objects-removed")
    assert (entry.actor, entry.detail) == ("admin", {"n_objects": 2})


def test_young_objects_stay(store: Store) -> None:
    keep(store, instance())
    leave_extra(store, instance(50))
    assert find(store, min_age_s=3600.0) == []
    assert len(find(store)) == 1


def test_a_damaged_object_that_was_set_aside_and_has_no_row_goes_too(store: Store) -> None:
    for number in range(3):
        keep(store, instance(number))
    digest = leave_extra(store, instance(50))
    damage(store, digest, lambda sound: sound[:-1] + b"\x55")
    store.integrity.set_aside(digest)
    (found,) = find(store)
    assert found.location.endswith(".damaged")
    assert store.extras.remove([found], by="admin", now=T0) == 1
    assert find(store) == []


def test_what_got_its_row_since_it_was_listed_stays(store: Store) -> None:
    keep(store, instance(1))
    leave_extra(store, instance(50))
    found = find(store)
    assert keep(store, instance(50)) is Kept.STORED
    assert store.extras.remove(found, by="admin", now=T0) == 0
    forget_copies(store)
    assert verify(store) == []


def test_an_instance_that_is_just_being_received_is_never_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove between the moment when the object is stored and the transaction that adds its row, at any age."""
    keep(store, instance(1))
    keep(store, instance(2))
    is_linked, go_on = threading.Event(), threading.Event()
    link = type(store.objects).link

    def link_and_wait(self: object, spool: object, digest: str) -> bool:
        is_new = link(self, spool, digest)  # type: ignore[arg-type]
        is_linked.set()
        assert go_on.wait(60)
        return is_new

    monkeypatch.setattr(type(store.objects), "link", link_and_wait)
    kept: list[Kept] = []
    sender = threading.Thread(target=lambda: kept.append(keep(store, instance(50))))
    sender.start()
    try:
        assert is_linked.wait(60)
        digest = hashlib.sha256(instance(50).encoded).hexdigest()
        assert store.objects.exists(digest)
        # A folder shows by the name in the spool that it is being received, and does not list it.
        assert len(find(store)) == (0 if store.objects.is_local else 1)
        assert store.extras.remove([Listed(ListedKind.OBJECT, digest, "", DAY_S, 1)], by="admin", now=T0) == 1
        assert not store.objects.exists(digest)
    finally:
        go_on.set()
        sender.join(60)
    assert kept == [Kept.STORED]
    forget_copies(store)
    assert store.objects.exists(digest)
    assert verify(store) == []


def test_senders_and_removal_together_lose_nothing(store: Store) -> None:
    """Everything extra is removed all the time, while instances come in whose objects have no row at first."""
    for number in range(40):
        keep(store, instance(number, series="1.2.9"))
    over = threading.Event()
    n_removed: list[int] = []

    def remove_all() -> None:
        while not over.is_set():
            found = find(store)
            n_removed.append(store.extras.remove(found, by="admin", now=T0) if found else 0)

    remover = threading.Thread(target=remove_all)
    remover.start()
    try:
        for number in range(30):
            leave_extra(store, instance(number))  # its bytes are there, as after a crash
            assert keep(store, instance(number)) is Kept.STORED
    finally:
        over.set()
        remover.join(120)
    forget_copies(store)
    assert verify(store) == []
    assert len(n_removed) > 1


def test_more_than_the_index_names_is_not_removed(store: Store) -> None:
    keep(store, instance(1))
    for number in (50, 51):
        leave_extra(store, instance(number))
    found = find(store)
    with pytest.raises(TooManyExtraError, match="2 objects are extra, and the index names only 1; nothing was removed"):
        store.extras.remove(found, by="admin", now=T0)
    assert len(find(store)) == 2


@pytest.mark.parametrize("name", ["notes.txt", "notes.dcm", "notes.damaged", f"{'80' * 32}.dcm"])
def test_a_name_that_is_no_objects_is_left_alone(store: Store, name: str) -> None:
    if isinstance(store.objects, S3Objects):
        store.objects.bucket.put_text(f"objects/7f/{name}", "mine")
    else:
        (Path(store.objects.location("7f" + "0" * 62)).parent / name).write_text("mine")
    assert find(store) == []

"""Instances come in here; what many threads bring at once becomes durable together.

The syncs of objects and of the index run at the same time, which the file system merges; nobody gets an answer before
all are done (docs/decisions/0050). Each thread syncs its own object; only the leader of a batch, which commits the
index meanwhile, has it done by another thread. A sender waits at most `COMMIT_WAIT_S` for an index that is locked or
away, because it gives up soon after that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dicom_node.store.database import Database
from dicom_node.store.errors import IndexUnavailableError, ObjectRemovedError, StorageFullError
from dicom_node.store.group_commit import GroupCommit, Part
from dicom_node.store.index.filing import Filed
from dicom_node.store.index.rows import Arrival
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.objects.spool import Spool
from dicom_node.store.recovery import Unproven, forget
from dicom_node.store.states import Kept
from dicom_node.store.work.arrivals import index_arrivals

if TYPE_CHECKING:
    from dicom_node.store.index.headers import Header

log = logging.getLogger(__name__)

COMMIT_WAIT_S = 4.0  # for the index; senders give up after 10 s, some after 5
REMOVAL_WAIT_S = 0.5  # before an object is written again that is just being removed
OUTAGE_S = 0.5  # an index that fails sooner than this is away, and does not come back within the wait


class _Entry(Part):
    """An instance on its way into a batch: its object has its name, and its bytes are being synced."""

    def __init__(self, spool: Spool, filed: Filed, *, is_new_object: bool) -> None:
        super().__init__(time.monotonic() + COMMIT_WAIT_S)
        self.spool = spool
        self.filed = filed
        self.is_new_object = is_new_object
        self.kept: Kept | None = None
        self._sync_error: BaseException | None = None
        self._synced = threading.Lock()
        self._synced.acquire()

    def sync(self, objects: ObjectStore) -> None:
        """Put the object on disk, and the name that it has in its folder; never raises."""
        try:
            objects.sync(self.spool, self.filed.digest)
        except BaseException as error:  # noqa: BLE001  the leader of the batch looks at it
            self._sync_error = error
        finally:
            self._synced.release()

    def sync_error(self) -> BaseException | None:
        """Wait for the sync, and return why it failed."""
        with self._synced:
            return self._sync_error


class Inbox:
    """Takes instances in; `keep` from many threads at once shares syncs and transactions."""

    def __init__(self, database: Database, objects: ObjectStore, *, min_free_bytes: int = 0) -> None:
        self.min_free_bytes = min_free_bytes
        self.n_object_syncs = 0  # each of a file and of the folder that names it
        self.n_commits = 0  # index transactions
        self._database = database
        self._objects = objects
        self._unproven = Unproven()
        self._batches = GroupCommit[_Entry](self._commit_batch)
        self._count_lock = threading.Lock()
        self._last_relabelled: tuple[str, str, str] | None = None  # association, negotiated and found transfer syntax
        self._syncs = ThreadPoolExecutor(max_workers=2, thread_name_prefix="sync")

    def keep(self, spool: Spool, arrival: Arrival) -> Kept:
        """Make the instance durable; returns only when its bytes and its row are on disk.

        The spool is spent in any case. After an exception the instance was not accepted.

        Raises
        ------
        StorageFullError
            Less space is free than the watermark.
        UnreadableInstanceError
            The header cannot be read, a UID is missing or invalid.
        MismatchedInstanceError
            The dataset's SOP class or instance UID is not the one announced in ``arrival``.
        IndexUnavailableError
            The database did not take it within `COMMIT_WAIT_S`.
        ObjectsUnavailableError
            The store of objects, if it is not on local disk, did not confirm that it has the bytes.
        """
        from dicom_node.store.index.headers import read_header  # loads pydicom, which most commands do without

        entry = None
        try:
            self.check_space()
            header = read_header(spool, arrival)
            if header.transfer_syntax_uid != arrival.transfer_syntax_uid:
                spool = self._relabel(spool, header, arrival)
            filed = Filed(spool.sha256(), spool.dataset_bytes, header, arrival)
            entry = self._add(spool, filed)
            if isinstance(entry.error, ObjectRemovedError):
                time.sleep(REMOVAL_WAIT_S)
                entry = self._add(spool, filed)
        finally:
            # Where this call named an object that has no row, a trace of it stays: it tells the next start.
            if entry is None or entry.kept is not None or not entry.is_new_object:
                spool.discard()
            else:
                self._objects.abandon(spool, entry.filed.digest)
        if entry.kept is None:
            raise entry.error or RuntimeError("instance left a batch without an answer")
        return entry.kept

    def _add(self, spool: Spool, filed: Filed) -> _Entry:
        entry = _Entry(spool, filed, is_new_object=self._objects.link(spool, filed.digest))
        with self._count_lock:
            self.n_object_syncs += 1
        self._commit(entry)
        return entry

    def check_space(self) -> None:
        """Check that an instance can be stored now; this is fast enough to do for every C-STORE.

        Raises
        ------
        StorageFullError
            Less disk space is free than the watermark.
        DataDirReplacedError
            Another folder has taken the place of the data directory.
        """
        self._objects.check_same_folder()
        free_bytes = self._objects.free_bytes()
        if free_bytes < self.min_free_bytes:
            free, wanted = f"{free_bytes / 1e9:.2f} GB free", f"{self.min_free_bytes / 1e9:.2f} GB"
            raise StorageFullError(self._objects.spool_folder.parent, f"{free}, dimse.min_free_bytes asks for {wanted}")

    def close(self) -> None:
        """Wait for the syncs under way."""
        self._syncs.shutdown()

    def _commit(self, entry: _Entry) -> None:
        """Sync an entry's object and commit its row, in a batch with others."""
        if self._batches.join(entry):
            syncing = self._syncs.submit(entry.sync, self._objects)
            self._batches.lead(entry)
            syncing.result()
        else:
            entry.sync(self._objects)
            if not self._batches.wait(entry):
                raise self._database.unavailable(f"busy for {COMMIT_WAIT_S:g} s")

    def _commit_batch(self, batch: Sequence[_Entry]) -> None:
        """Commit a batch and settle its entries, or those whose time is over; never raises."""
        began = time.monotonic()
        try:
            self._commit_entries(batch)
        except IndexUnavailableError as error:
            now = time.monotonic()
            is_away = now - began < OUTAGE_S
            for entry in batch:  # one that came later waits for the next attempt
                if is_away or now >= entry.deadline:
                    entry.settle(error)
        except Exception as error:  # noqa: BLE001  every waiter gets an answer, whatever it is
            if len(batch) == 1:
                batch[0].settle(error)
                return
            for entry in batch:  # one of them may be at fault: the others must not suffer
                try:
                    self._commit_entries([entry])
                except Exception as own_error:  # noqa: BLE001
                    entry.settle(own_error)

    def _commit_entries(self, batch: Sequence[_Entry]) -> None:
        try:
            with self._database.write(until=min(entry.deadline for entry in batch)) as connection:
                # Retention removes objects under the same lock: one with these bytes may have gone since we found it.
                for entry in batch:
                    entry.is_new_object |= self._objects.restore(connection, entry.spool, entry.filed.digest)
                answers = index_arrivals(connection, [entry.filed for entry in batch])
                answered = list(zip(batch, answers, strict=True))
                new_digests = [entry.filed.digest for entry, kept in answered if kept is not Kept.DUPLICATE]
                if not self._objects.is_durable_once_linked:
                    self._unproven.replace(connection, new_digests)
            self._unproven.note_committed(new_digests)
            self.n_commits += 1
        except IndexUnavailableError as error:
            if error.is_uncertain:
                self._unproven.leave_marks()
            raise
        finally:
            # The next batch takes the marks of this one away, so it must not begin before these syncs have ended.
            failures = [failure for entry in batch if (failure := entry.sync_error()) is not None]
        failure = failures[0] if failures else None
        if failure is not None:
            # The kernel reports a failed write once and then forgets it (lwn.net/Articles/752063), so no later sync
            # can vouch for these bytes: what a sender repeats has to be written anew.
            self._take_back(new_digests)
        for entry, kept in answered:
            entry.kept = kept if failure is None else None
            entry.settle(failure)

    def _take_back(self, digests: Sequence[str]) -> None:
        with self._database.write() as connection:
            forget(connection, digests)
            self._objects.begin_removal(connection, digests)
        self._objects.finish_removal(self._database, digests)

    def _relabel(self, spool: Spool, header: Header, arrival: Arrival) -> Spool:
        """Let the file say in which transfer syntax its dataset is; the dataset stays as it came."""
        from pydicom.uid import UID

        key = (arrival.association_id, arrival.transfer_syntax_uid, header.transfer_syntax_uid)
        is_first = key != self._last_relabelled
        self._last_relabelled = key
        log.log(
            logging.WARNING if is_first else logging.DEBUG,
            "instances are not in the transfer syntax that was negotiated, and kept under the one that they are in",
            extra={
                "sop_instance_uid": header.sop_instance_uid,
                "association_id": arrival.association_id,
                "calling_ae_title": arrival.calling_ae_title,
                "negotiated": UID(arrival.transfer_syntax_uid).name,
                "found": UID(header.transfer_syntax_uid).name,
            },
        )
        return self._objects.relabel(
            spool,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
        )

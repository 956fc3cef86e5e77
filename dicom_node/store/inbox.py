"""Instances come in here; what many threads bring at once becomes durable together.

There is no committer thread and no waiting to fill a batch: whoever finds nobody committing commits all that is there,
and those who come meanwhile form the next batch. The syncs of objects and of the index run at the same time, which the
file system merges; nobody gets an answer before all are done (docs/decisions/0050).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pydicom.uid import UID

from dicom_node.store.database import Database
from dicom_node.store.errors import StorageFullError
from dicom_node.store.index.filing import Filed
from dicom_node.store.index.headers import Header, read_header
from dicom_node.store.index.rows import Arrival
from dicom_node.store.objects.files import ObjectStore, Spool, sync_folder
from dicom_node.store.recovery import Unproven, forget
from dicom_node.store.states import Kept
from dicom_node.store.work.arrivals import index_arrivals

log = logging.getLogger(__name__)

N_SYNC_THREADS = 16  # they wait for the disk; each also stands for one more sync that it can merge


class _Entry:
    """An instance on its way into a batch: its object has its name, its bytes are being synced."""

    __slots__ = ("error", "filed", "kept", "spool", "syncing")

    def __init__(self, spool: Spool, filed: Filed, syncing: Future[None]) -> None:
        self.spool = spool
        self.filed = filed
        self.syncing = syncing
        self.kept: Kept | None = None
        self.error: BaseException | None = None

    @property
    def is_settled(self) -> bool:
        return self.kept is not None or self.error is not None


class Inbox:
    """Takes instances in; `keep` from many threads at once shares syncs and transactions."""

    def __init__(self, database: Database, objects: ObjectStore, *, min_free_bytes: int = 0) -> None:
        self.min_free_bytes = min_free_bytes
        self.n_object_syncs = 0  # each of a file and of the folder that names it
        self.n_commits = 0  # index transactions
        self._database = database
        self._objects = objects
        self._unproven = Unproven()
        self._pending: list[_Entry] = []
        self._pending_lock = threading.Lock()  # for the list and the count of syncs; never held over disk access
        self._commit_lock = threading.Lock()
        self._last_relabelled: tuple[str, str, str] | None = None  # association, negotiated and found transfer syntax
        self._syncs = ThreadPoolExecutor(max_workers=N_SYNC_THREADS, thread_name_prefix="sync")

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
            The database did not take it.
        """
        entry = None
        try:
            self.check_space()
            header = read_header(spool, arrival)
            if header.transfer_syntax_uid != arrival.transfer_syntax_uid:
                spool = self._relabel(spool, header, arrival)
            filed = Filed(spool.sha256(), spool.dataset_bytes, header, arrival)
            folder = self._objects.link(spool, filed.digest)
            entry = _Entry(spool, filed, self._syncs.submit(_sync, spool, folder))
            with self._pending_lock:
                self.n_object_syncs += 1
                self._pending.append(entry)
            with self._commit_lock:
                if not entry.is_settled:
                    self._commit_pending()
        finally:
            if entry is None or entry.kept is not None:
                spool.discard()
            # Otherwise its name stays, and tells the next start that the object may have no row.
        if entry.kept is None:
            raise entry.error or RuntimeError("instance left a batch without an answer")
        return entry.kept

    def _relabel(self, spool: Spool, header: Header, arrival: Arrival) -> Spool:
        """Let the file say in which transfer syntax its dataset is; the dataset stays as it came."""
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

    def check_space(self) -> None:
        """Raise `StorageFullError` when less is free than the watermark; cheap enough for every C-STORE."""
        free_bytes = self._objects.free_bytes()
        if free_bytes < self.min_free_bytes:
            raise StorageFullError(self._objects.folder, free_bytes, self.min_free_bytes)

    def close(self) -> None:
        """Wait for the syncs under way."""
        self._syncs.shutdown()

    def _commit_pending(self) -> None:
        with self._pending_lock:
            batch, self._pending = self._pending, []
        try:
            self._commit(batch)
        except Exception as error:  # noqa: BLE001  every waiter gets an answer, whatever it is
            if len(batch) == 1:
                batch[0].error = error
                return
            for entry in batch:  # one of them may be at fault: the others must not suffer
                try:
                    self._commit([entry])
                except Exception as own_error:  # noqa: BLE001
                    entry.error = own_error

    def _commit(self, batch: Sequence[_Entry]) -> None:
        syncing = [entry.syncing for entry in batch]
        try:
            with self._database.write() as connection:
                # Retention removes objects under the same lock: one with these bytes may have gone since we found it.
                for entry in batch:
                    self._objects.restore(entry.spool, entry.filed.digest)
                answers = index_arrivals(connection, [entry.filed for entry in batch])
                answered = list(zip(batch, answers, strict=True))
                new_digests = [entry.filed.digest for entry, kept in answered if kept is not Kept.DUPLICATE]
                self._unproven.replace(connection, new_digests)
            self.n_commits += 1
        finally:
            failures = [failure for sync in syncing if (failure := sync.exception()) is not None]
        failure = failures[0] if failures else None
        if failure is not None:
            # The kernel reports a failed write once and then forgets it (lwn.net/Articles/752063), so no later sync
            # can vouch for these bytes: what a sender repeats has to be written anew.
            self._take_back(new_digests)
        for entry, kept in answered:
            entry.error, entry.kept = (failure, None) if failure is not None else (None, kept)

    def _take_back(self, digests: Sequence[str]) -> None:
        with self._database.write() as connection:
            forget(connection, digests)
        for digest in digests:
            self._objects.remove(digest)


def _sync(spool: Spool, folder: Path) -> None:
    """Put an object on disk, and the name that it has in ``folder``."""
    spool.sync()
    sync_folder(folder)

"""The store as one object that owns its parts."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.store.database import Database
from dicom_node.store.extras import Extras
from dicom_node.store.inbox import Inbox
from dicom_node.store.index.arrival_order import ArrivalOrder
from dicom_node.store.index.browsing import Browsing
from dicom_node.store.index.open_associations import OpenAssociations
from dicom_node.store.index.search import Search
from dicom_node.store.index.series import SeriesIndex
from dicom_node.store.integrity import Integrity
from dicom_node.store.locks import enter, hold_role
from dicom_node.store.objects.files import LocalObjects
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.objects.s3.place import S3Place
from dicom_node.store.parts import Part, PartState, Task, read_parts
from dicom_node.store.permissions import make_private_file, make_private_folder
from dicom_node.store.recovery import recover
from dicom_node.store.same_objects import check_same_index, check_same_objects
from dicom_node.store.sqlite import INDEX_FILE, sqlite_url
from dicom_node.store.states import JobState
from dicom_node.store.work.access_tokens import AccessTokens
from dicom_node.store.work.announcements import Announcements
from dicom_node.store.work.audit import Audit
from dicom_node.store.work.audit_buffer import AuditBuffer
from dicom_node.store.work.audit_chain import AuditChain
from dicom_node.store.work.audit_head import AuditHead
from dicom_node.store.work.closing import SeriesClosing
from dicom_node.store.work.commitments import Commitments
from dicom_node.store.work.conflicts import Conflicts
from dicom_node.store.work.decisions import Decisions
from dicom_node.store.work.deliveries import Deliveries
from dicom_node.store.work.delivery_checks import DeliveryChecks
from dicom_node.store.work.erasure import Erasure
from dicom_node.store.work.exports import Exports
from dicom_node.store.work.figures import Figures, read_figures
from dicom_node.store.work.jobs import Jobs
from dicom_node.store.work.key_objects import KeyObjects
from dicom_node.store.work.moves import Moves
from dicom_node.store.work.notices import Notices
from dicom_node.store.work.peer_contexts import PeerContexts
from dicom_node.store.work.result_withdrawal import ResultWithdrawal
from dicom_node.store.work.retention import Retention, remove_unnamed
from dicom_node.store.work.rows import JobRow
from dicom_node.store.work.studies import Studies
from dicom_node.store.work.times import WorkTimes
from dicom_node.store.work.web_sessions import WebSessions

log = logging.getLogger(__name__)


class Store:
    """An open store; close it, or use it in a ``with``. Do not use it across a fork: open one in each process.

    Attributes
    ----------
    now
        The time by the clock that all who share the index have in common, for whatever is written to it.
    objects, inbox, integrity, extras, series, closing, jobs, deliveries, commitments, delivery_checks, moves,
    peer_contexts, studies, decisions, announcements, notices, conflicts, exports, erasure, key_objects, times, audit,
    audit_buffer, audit_chain, audit_head, search, browsing, retention, associations, access_tokens, web_sessions,
    arrival_order
        Its parts, each a class of its own.
    """

    def __init__(
        self, data_dir: Path, database: Database, *, min_free_bytes: int = 0, objects_at: S3Place | None = None
    ) -> None:
        self.data_dir = data_dir
        self.now = database.clock
        self._database = database
        self.objects = open_objects(data_dir, objects_at, min_free_bytes=min_free_bytes)
        self.inbox = Inbox(database, self.objects, min_free_bytes=min_free_bytes)
        self.integrity = Integrity(database, self.objects)
        self.extras = Extras(database, self.objects)
        self.series = SeriesIndex(database)
        self.closing = SeriesClosing(database)
        self.jobs = Jobs(database, self.objects)
        self.deliveries = Deliveries(database)
        self.commitments = Commitments(database)
        self.delivery_checks = DeliveryChecks(database)
        self.moves = Moves(database)
        self.peer_contexts = PeerContexts(database)
        self.studies = Studies(database)
        self.decisions = Decisions(database)
        self.announcements = Announcements(database)
        self.notices = Notices(database)
        self.conflicts = Conflicts(database, self.objects)
        self.exports = Exports(database)
        self.erasure = Erasure(database, self.objects)
        self.key_objects = KeyObjects(database, self.objects)
        self.times = WorkTimes(database)
        self.audit = Audit(database)
        self.audit_buffer = AuditBuffer(database)
        self.audit_chain = AuditChain(database)
        self.audit_head = AuditHead(data_dir)
        self.search = Search(database)
        self.arrival_order = ArrivalOrder(database)
        self.browsing = Browsing(database)
        self.retention = Retention(database, self.objects)
        self.result_withdrawal = ResultWithdrawal(database)
        self.access_tokens = AccessTokens(database)
        self.web_sessions = WebSessions(database)
        self.associations = OpenAssociations(data_dir / "associations")
        self._presence_fd = enter(data_dir, when_alone=self._recover)

    @classmethod
    def open(
        cls, data_dir: Path, *, url: str | None = None, min_free_bytes: int = 0, objects_at: S3Place | None = None
    ) -> Self:
        """Open the store; create its folders and migrate its database if needed.

        Parameters
        ----------
        data_dir
            Folder of the objects and, without ``url``, of the SQLite database.
        url
            SQLAlchemy URL of the database; None means SQLite under ``data_dir``.
        min_free_bytes
            Free space below which the inbox accepts nothing more.
        objects_at
            The bucket of the objects; None means ``data_dir``.

        Raises
        ------
        DatabaseTooNewError
            A later version of this package migrated the database.
        """
        data_dir = data_dir.absolute()
        make_private_folder(data_dir)
        if url is None:
            make_private_file(data_dir / INDEX_FILE)  # SQLite would make it readable for everyone
        database = Database(url or sqlite_url(data_dir / INDEX_FILE))
        try:
            database.migrate()
            return cls(data_dir, database, min_free_bytes=min_free_bytes, objects_at=objects_at)
        except BaseException:
            database.dispose()
            raise

    @staticmethod
    def ask_database(url: str) -> None:
        """Check that a database answers, and change nothing.

        Raises
        ------
        DatabaseUrlError, IndexUnavailableError
            It cannot be asked, or does not answer.
        """
        database = Database(url)
        try:
            with database.read():
                pass
        finally:
            database.dispose()

    @staticmethod
    def ask_objects(place: S3Place) -> None:
        """Check that a bucket can be written, read and listed; what is written for that is removed again.

        Raises
        ------
        ObjectsDriverError, ObjectsUnavailableError
            It cannot.
        """
        from dicom_node.store.objects.s3.bucket import Bucket

        Bucket(place).check_writable()

    def check_writable(self, *, timeout_s: float) -> None:
        """Raise `IndexUnavailableError` unless a write transaction can begin within ``timeout_s``; write nothing."""
        self._database.check_writable(timeout_s)

    def check_same_objects(self) -> None:
        """Raise `ObjectsElsewhereError` if these are not the objects that the index names."""
        check_same_objects(self._database, self.objects)

    def check_same_index(self) -> None:
        """Raise `IndexElsewhereError` if there are objects, and the index is one that was never used."""
        check_same_index(self._database, self.objects)

    def turn(self, name: str) -> AbstractContextManager[bool]:
        """Whether this process has a turn that only one of those who share the index has at a time; see `Database`."""
        return self._database.turn(name)

    def keep_house(self) -> None:
        """Do what objects in a shared store need now and then; every running part calls it."""
        self.objects.keep_house(self._database)

    def figures(self) -> Figures:
        """Return the present numbers of studies, jobs, deliveries and so on, for monitoring."""
        return read_figures(self._database)

    @staticmethod
    def lock(data_dir: Path, role: str) -> AbstractContextManager[None]:
        """Hold ``role`` on the data directory exclusively; raise `DataDirInUseError` if another process holds it."""
        return hold_role(data_dir, role)

    @staticmethod
    def announce(data_dir: Path, part: str, now: datetime) -> Part:
        """Register this process as a part of the node; call ``Part.end`` when it ends."""
        return Part(data_dir.absolute(), part, now)

    @staticmethod
    def parts(data_dir: Path) -> tuple[PartState, ...]:
        """Return the states of the parts that run or have failed."""
        return read_parts(data_dir.absolute())

    def task_of(self, job: JobRow) -> Task | None:
        """Return what a worker says about a running job; None if it does not run, or nothing is known of its worker."""
        if job.state is not JobState.RUNNING:
            return None
        tasks = (part.task for part in self.parts(self.data_dir) if part.is_running)
        return next((task for task in tasks if task is not None and task.job_id == job.id), None)

    def close(self) -> None:
        """Finish what the inbox has accepted, and close files and connections."""
        self.inbox.close()
        self.audit_buffer.close()
        self._database.dispose()
        if self._presence_fd >= 0:
            os.close(self._presence_fd)
            self._presence_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _recover(self) -> None:
        self.associations.clear()
        n_taken_back = recover(self._database, self.objects)
        n_leftovers = self.objects.sweep(partial(remove_unnamed, self._database, self.objects))
        if n_taken_back or n_leftovers:
            log.warning(
                "recovered after a crash: %d unacknowledged objects taken back, %d leftovers removed",
                n_taken_back,
                n_leftovers,
            )


def open_objects(data_dir: Path, at: S3Place | None, *, min_free_bytes: int = 0) -> ObjectStore:
    """Open the objects of a node: a folder, or a bucket."""
    if at is None:
        return LocalObjects(data_dir / "objects", data_dir / "spool")
    from dicom_node.store.objects.s3.objects import S3Objects

    return S3Objects(at, data_dir, min_free_bytes=min_free_bytes)

"""The store as one object that owns its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dicom_node.store.objects import ObjectStore, Spool
from dicom_node.store.records import (
    Arrival,
    AuditRow,
    ConflictRow,
    DecideStudy,
    DeliveryRow,
    InstanceRow,
    JobEventRow,
    JobPlan,
    JobRow,
    Outcome,
    ResultRow,
    SeriesEvidence,
    SeriesRow,
    Skip,
    StudyRow,
    TagRow,
    VerdictRow,
)
from dicom_node.store.states import JobState, Kept, SeriesState, StudyState


class Inbox:
    """Takes instances in; `keep` from many threads at once shares syncs and transactions."""

    n_commits: int  # index transactions so far
    n_folder_syncs: int
    n_file_syncs: int

    def keep(self, spool: Spool, arrival: Arrival) -> Kept:
        """Make the instance durable; returns only when its bytes and its row are on disk.

        Raises
        ------
        StorageFullError
            Less space is free than the watermark.
        UnreadableInstanceError
            The header cannot be read, a UID is missing or invalid.
        MismatchedInstanceError
            The dataset's SOP class or instance UID is not the one announced in ``arrival``.
        """
        raise NotImplementedError

    def keep_soon(self, spool: Spool, arrival: Arrival) -> Future[Kept]:
        """As `keep`, from a background thread; for a receiver that reads on while the disk works."""
        raise NotImplementedError

    def check_space(self) -> None:
        """Raise `StorageFullError` when less is free than the watermark; cheap enough for every C-STORE."""
        raise NotImplementedError


class SeriesIndex:
    """Series and their instances."""

    def quiet(self, now: datetime, quiet_s: float, *, limit: int = 100) -> tuple[SeriesRow, ...]:
        """Series in ``receiving`` to which nothing was added for ``quiet_s`` seconds, the oldest first."""
        raise NotImplementedError

    def complete(self, series: SeriesRow, plan: Sequence[JobPlan] | Skip, now: datetime) -> bool:
        """Close a generation and queue its jobs; False, and nothing done, when ``series`` is no longer as given."""
        raise NotImplementedError

    def get(self, series_instance_uid: str) -> SeriesRow:
        """One series, or `NotFoundError`."""
        raise NotImplementedError

    def list(
        self,
        *,
        state: SeriesState | None = None,
        study_instance_uid: str | None = None,
        limit: int = 1000,
        offset: int = 0,
    ) -> tuple[SeriesRow, ...]:
        """Series, the latest arrival first."""
        raise NotImplementedError

    def counts(self) -> dict[SeriesState, int]:
        """Received series by state."""
        raise NotImplementedError

    def instances(self, series_instance_uid: str, *, generation: int | None = None) -> tuple[InstanceRow, ...]:
        """Instances in order of arrival; with ``generation`` only those that it holds."""
        raise NotImplementedError

    def instance_attributes(self, series_instance_uid: str) -> tuple[dict[str, Any], ...]:
        """DICOM JSON attributes of the instances, for routing; in order of arrival."""
        raise NotImplementedError

    def conflicts(self, *, limit: int = 100) -> tuple[ConflictRow, ...]:
        """Bytes that were kept beside an instance, the latest first."""
        raise NotImplementedError

    def n_conflicts(self) -> int:
        """How many there are."""
        raise NotImplementedError


class Jobs:
    """Queued work on series."""

    def claim(self, owner: str, now: datetime, lease_s: float) -> JobRow | None:
        """Take the next queued or due job; two callers never get the same one."""
        raise NotImplementedError

    def heartbeat(self, job_id: int, owner: str, now: datetime, lease_s: float) -> bool:
        """Extend the lease; False when the job is no longer the owner's (stop working on it)."""
        raise NotImplementedError

    def succeed(
        self, job_id: int, owner: str, outcome: Outcome, now: datetime, *, decide_study: DecideStudy | None = None
    ) -> tuple[ResultRow, ...]:
        """End the job with all that it leaves behind, in one transaction.

        Raises
        ------
        LeaseLostError
            The job is not running under ``owner`` any more; nothing was changed.
        ResultConflictError
            A result's SOP Instance UID is taken by other bytes; nothing was changed.
        """
        raise NotImplementedError

    def fail(
        self,
        job_id: int,
        owner: str,
        *,
        code: str,
        message: str,
        detail: str | None,
        retry_at: datetime | None,
        now: datetime,
        decide_study: DecideStudy | None = None,
    ) -> JobState:
        """End the attempt: ``waiting`` until ``retry_at``, or ``dead`` without one; `LeaseLostError` as in `succeed`."""
        raise NotImplementedError

    def release(self, job_id: int, owner: str, now: datetime) -> bool:
        """Give an unfinished job back at shutdown; the attempt does not count. False when it was not the owner's."""
        raise NotImplementedError

    def expire_leases(self, now: datetime, *, max_attempts: int | None = None) -> int:
        """Requeue running jobs of which the lease ran out, or end them as ``dead`` (``worker-lost``) after that many."""
        raise NotImplementedError

    def retry(self, job_id: int, now: datetime) -> JobRow:
        """Queue a dead, cancelled or waiting job afresh; `IllegalTransitionError` for any other."""
        raise NotImplementedError

    def cancel(self, job_id: int, now: datetime) -> JobRow:
        """Stop a queued, waiting or running job; its worker learns it at the next heartbeat."""
        raise NotImplementedError

    def get(self, job_id: int) -> JobRow:
        """One job, or `NotFoundError`."""
        raise NotImplementedError

    def list(
        self,
        *,
        states: Sequence[JobState] = (),
        series_instance_uid: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[JobRow, ...]:
        """Jobs, the latest first; all states when none is named."""
        raise NotImplementedError

    def events(self, job_id: int) -> tuple[JobEventRow, ...]:
        """Transitions of a job in order."""
        raise NotImplementedError

    def results(self, job_id: int) -> tuple[ResultRow, ...]:
        """What a job wrote."""
        raise NotImplementedError

    def counts(self) -> dict[JobState, int]:
        """Jobs by state, for `status`."""
        raise NotImplementedError


class Deliveries:
    """The outbox: each result to each of its peers."""

    def claim_due(
        self, owner: str, now: datetime, lease_s: float, *, limit: int = 16, peer: str | None = None
    ) -> tuple[DeliveryRow, ...]:
        """Take due deliveries, all to one peer, so that they can share an association; empty when none is due."""
        raise NotImplementedError

    def heartbeat(self, delivery_id: int, owner: str, now: datetime, lease_s: float) -> bool:
        """Extend the lease; False when the delivery is no longer the owner's."""
        raise NotImplementedError

    def succeed(self, delivery_id: int, owner: str, now: datetime) -> None:
        """Record that the peer has it; `LeaseLostError` when it is no longer the owner's."""
        raise NotImplementedError

    def fail(
        self, delivery_id: int, owner: str, *, code: str, message: str, retry_at: datetime | None, now: datetime
    ) -> JobState:
        """End the attempt: ``waiting`` until ``retry_at``, or ``dead`` without one."""
        raise NotImplementedError

    def release(self, delivery_id: int, owner: str, now: datetime) -> bool:
        """Give a claimed delivery back at shutdown; the attempt does not count."""
        raise NotImplementedError

    def expire_leases(self, now: datetime) -> int:
        """Requeue deliveries of which the lease ran out."""
        raise NotImplementedError

    def retry(self, delivery_id: int, now: datetime) -> DeliveryRow:
        """Queue a dead, cancelled or waiting delivery afresh."""
        raise NotImplementedError

    def cancel(self, delivery_id: int, now: datetime) -> DeliveryRow:
        """Stop a queued, waiting or running delivery."""
        raise NotImplementedError

    def get(self, delivery_id: int) -> DeliveryRow:
        """One delivery, or `NotFoundError`."""
        raise NotImplementedError

    def list(
        self,
        *,
        states: Sequence[JobState] = (),
        job_id: int | None = None,
        peer: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[DeliveryRow, ...]:
        """Deliveries, the latest first."""
        raise NotImplementedError

    def counts(self) -> dict[JobState, int]:
        """Deliveries by state, for `status`."""
        raise NotImplementedError


class Studies:
    """Studies: state, evidence, verdicts, tags."""

    def get(self, study_instance_uid: str) -> StudyRow:
        """One study, or `NotFoundError`."""
        raise NotImplementedError

    def list(self, *, state: StudyState | None = None, limit: int = 100, offset: int = 0) -> tuple[StudyRow, ...]:
        """Studies, the latest arrival first."""
        raise NotImplementedError

    def evidence(self, study_instance_uid: str) -> tuple[SeriesEvidence, ...]:
        """What a `DecideStudy` rule gets to see."""
        raise NotImplementedError

    def decide(self, study_instance_uid: str, decide_study: DecideStudy, now: datetime) -> StudyState:
        """Apply a rule to the evidence of now, in one transaction."""
        raise NotImplementedError

    def verdicts(self, study_instance_uid: str) -> tuple[VerdictRow, ...]:
        """Verdicts of the current generations of a study's series."""
        raise NotImplementedError

    def tags(self, study_instance_uid: str) -> tuple[TagRow, ...]:
        """Tags of a study and its series."""
        raise NotImplementedError

    def tag(
        self,
        study_instance_uid: str,
        name: str,
        value: str,
        *,
        set_by: str,
        now: datetime,
        series_instance_uid: str | None = None,
    ) -> None:
        """Set a tag; an earlier value is replaced."""
        raise NotImplementedError


class Audit:
    """Who did what, when; rows are only ever added."""

    def record(
        self, action: str, *, actor: str, subject: str, now: datetime, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Add a row."""
        raise NotImplementedError

    def list(self, *, limit: int = 100, offset: int = 0) -> tuple[AuditRow, ...]:
        """Rows, the latest first."""
        raise NotImplementedError


class Search:
    """QIDO-RS queries on the index; answers are DICOM JSON objects (PS3.18 F.2), counts included."""

    def search_studies(
        self, filters: Mapping[str, str], *, limit: int = 100, offset: int = 0
    ) -> tuple[dict[str, Any], ...]:
        """Studies that match; ``filters`` is DICOM keyword → query value as in the URL."""
        raise NotImplementedError

    def search_series(
        self, filters: Mapping[str, str], *, limit: int = 100, offset: int = 0
    ) -> tuple[dict[str, Any], ...]:
        """Series that match; study attributes are included."""
        raise NotImplementedError

    def search_instances(
        self, filters: Mapping[str, str], *, limit: int = 100, offset: int = 0
    ) -> tuple[dict[str, Any], ...]:
        """Instances that match; study and series attributes are included."""
        raise NotImplementedError

    def find_instances(
        self,
        *,
        study_instance_uid: str | None = None,
        series_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
    ) -> tuple[InstanceRow, ...]:
        """Instances for WADO-RS, ordered by series and instance number; at least one UID is wanted."""
        raise NotImplementedError


class Store:
    """An open store; close it, or use it in a ``with``."""

    objects: ObjectStore
    inbox: Inbox
    series: SeriesIndex
    jobs: Jobs
    deliveries: Deliveries
    studies: Studies
    audit: Audit
    search: Search

    @classmethod
    def open(cls, data_dir: Path, *, url: str | None = None, min_free_bytes: int = 0) -> Store:
        """Open the store, make its folders and migrate its database where needed.

        Parameters
        ----------
        data_dir
            Folder of the objects and, without ``url``, of the SQLite database ``index.sqlite``.
        url
            SQLAlchemy URL of the database; None is SQLite under ``data_dir``.
        min_free_bytes
            Watermark under which the inbox accepts nothing more.

        Raises
        ------
        DatabaseTooNewError
            A later version of this package migrated the database.
        """
        raise NotImplementedError

    @staticmethod
    @contextmanager
    def lock(data_dir: Path, role: str) -> Iterator[None]:
        """Hold ``role`` on the data directory alone; `DataDirInUseError` says who holds it already."""
        raise NotImplementedError
        yield

    def close(self) -> None:
        """Close files and connections."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

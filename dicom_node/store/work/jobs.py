"""Queued work on series: which worker has it, until when, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import IllegalTransitionError, LeaseLostError, NotFoundError
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.schema import job_events, jobs
from dicom_node.store.states import JobState
from dicom_node.store.work.outcomes import file_results, predecessor_rows, record_outcome, result_rows
from dicom_node.store.work.rows import DecideStudy, JobEventRow, JobRow, Outcome, ResultRow
from dicom_node.store.work.studies import decide_study_state
from dicom_node.store.work.transitions import JOB_COLUMNS, job_row, move_job

_EVENT_COLUMNS = [job_events.c[name] for name in JobEventRow.__dataclass_fields__]


class Jobs:
    """Queued work on series."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def claim(self, owner: str, now: datetime, lease_s: float, *, pipeline_digest: str) -> JobRow | None:
        """Claim the next queued or due job that has a route, for one pipeline; two callers never get the same job."""
        due = (
            sa.select(*JOB_COLUMNS)
            .where(
                jobs.c.pipeline_digest == pipeline_digest,
                jobs.c.rule_name.is_not(None),
                (jobs.c.state == JobState.QUEUED.value)
                | ((jobs.c.state == JobState.WAITING.value) & (jobs.c.retry_at <= now)),
            )
            .order_by(jobs.c.id)
            .limit(1)
        )
        with self._database.read() as connection:  # most calls find nothing and need no write lock
            if connection.execute(due).one_or_none() is None:
                return None
        with self._database.claim() as connection:
            row = connection.execute(due.with_for_update(skip_locked=True)).one_or_none()
            if row is None:
                return None
            job = job_row(row)
            return move_job(
                connection,
                job,
                JobState.RUNNING,
                "claimed",
                now,
                owner=owner,
                lease_expires_at=now + timedelta(seconds=lease_s),
                attempt_number=job.attempt_number + 1,
                started_at=now,
            )

    def heartbeat(self, job_id: int, owner: str, now: datetime, lease_s: float) -> bool:
        """Extend the lease; return False if the job no longer belongs to the owner, who must then stop."""
        extend = (
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == JobState.RUNNING.value, jobs.c.owner == owner)
            .values(lease_expires_at=now + timedelta(seconds=lease_s))
        )
        with self._database.claim() as connection:
            return connection.execute(extend).rowcount == 1

    def succeed(
        self, job_id: int, owner: str, outcome: Outcome, now: datetime, *, decide_study: DecideStudy | None = None
    ) -> tuple[ResultRow, ...]:
        """End the job and store its outcome, in one transaction.

        Raises
        ------
        LeaseLostError
            The job is not running under ``owner`` any more; nothing was changed.
        ResultConflictError
            A result's SOP Instance UID is taken by other bytes; nothing was changed.
        """
        with self._database.read() as connection:  # before any bytes are written
            _held_job(connection, job_id, owner)
        with file_results(self._objects, outcome.results, now) as filed, self._database.write() as connection:
            job = _held_job(connection, job_id, owner)
            for spool, one in filed:
                self._objects.restore(connection, spool, one.digest)
            record_outcome(connection, job, [one for _, one in filed], outcome, now)
            move_job(
                connection,
                job,
                JobState.SUCCEEDED,
                "succeeded",
                now,
                detail=f"{len(outcome.results)} results",
                ended_at=now,
                error_code=None,
                error_message=None,
                error_detail=None,
            )
            if decide_study is not None:
                decide_study_state(connection, job.study_instance_uid, decide_study, now)
            return result_rows(connection, job_id)

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
        """End the attempt: the job waits until ``retry_at``, or is dead if that is None.

        Raises
        ------
        LeaseLostError
            The job is not running under ``owner`` any more; nothing was changed.
        """
        wanted = JobState.DEAD if retry_at is None else JobState.WAITING
        with self._database.write() as connection:
            job = _held_job(connection, job_id, owner)
            move_job(
                connection,
                job,
                wanted,
                "failed",
                now,
                detail=f"{code}: {message}",
                retry_at=retry_at,
                ended_at=now if wanted is JobState.DEAD else None,
                error_code=code,
                error_message=message,
                error_detail=detail,
            )
            if decide_study is not None:
                decide_study_state(connection, job.study_instance_uid, decide_study, now)
        return wanted

    def release(self, job_id: int, owner: str, now: datetime) -> bool:
        """Return an unfinished job to the queue at shutdown, uncounted; return False if it was not the owner's."""
        with self._database.write() as connection:
            try:
                job = _held_job(connection, job_id, owner)
            except LeaseLostError:
                return False
            move_job(connection, job, JobState.QUEUED, "released", now, attempt_number=job.attempt_number - 1)
        return True

    def expire_leases(
        self, now: datetime, *, max_attempts: int | None = None, decide_study: DecideStudy | None = None
    ) -> int:
        """Requeue running jobs whose lease has expired, and return their number.

        A job that has used up ``max_attempts`` ends as ``dead``, code ``worker-lost``: it may be what kills workers.
        """
        expired = sa.select(*JOB_COLUMNS).where(jobs.c.state == JobState.RUNNING.value, jobs.c.lease_expires_at < now)
        with self._database.read() as connection:
            if connection.execute(expired).first() is None:
                return 0
        with self._database.write() as connection:
            rows = connection.execute(expired.with_for_update()).all()  # an owner may renew its lease at this moment
            for row in rows:
                job = job_row(row)
                if max_attempts is None or job.attempt_number < max_attempts:
                    move_job(connection, job, JobState.QUEUED, "lease-expired", now)
                    continue
                message = f"no sign of life from {job.owner} in attempt {job.attempt_number} of {max_attempts}"
                failure = {"error_code": "worker-lost", "error_message": message, "error_detail": None}
                move_job(connection, job, JobState.DEAD, "lease-expired", now, detail=message, ended_at=now, **failure)
                if decide_study is not None:
                    decide_study_state(connection, job.study_instance_uid, decide_study, now)
            return len(rows)

    def retry(self, job_id: int, now: datetime, *, decide_study: DecideStudy | None = None) -> JobRow:
        """Queue a dead, cancelled or waiting job again; raise `IllegalTransitionError` for any other."""
        with self._database.write() as connection:
            job = _job(connection, job_id, is_to_move=True)
            if job.state is JobState.RUNNING:  # only its worker may return it to the queue
                raise IllegalTransitionError("job", job_id, job.state, JobState.QUEUED, ("cancelled",))
            moved = move_job(connection, job, JobState.QUEUED, "retried", now, attempt_number=0, ended_at=None)
            if decide_study is not None:
                decide_study_state(connection, job.study_instance_uid, decide_study, now)
            return moved

    def cancel(self, job_id: int, now: datetime, *, decide_study: DecideStudy | None = None) -> JobRow:
        """Cancel a queued, waiting or running job; its worker learns of it at the next heartbeat."""
        with self._database.write() as connection:
            job = _job(connection, job_id, is_to_move=True)
            moved = move_job(connection, job, JobState.CANCELLED, "cancelled", now, ended_at=now)
            if decide_study is not None:
                decide_study_state(connection, job.study_instance_uid, decide_study, now)
            return moved

    def get(self, job_id: int) -> JobRow:
        """Return one job, or raise `NotFoundError`."""
        with self._database.read() as connection:
            return _job(connection, job_id)

    def list(
        self,
        *,
        states: Sequence[JobState] = (),
        series_instance_uid: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[JobRow, ...]:
        """Return jobs, the latest first, in all states unless one is named."""
        statement = sa.select(*JOB_COLUMNS).order_by(jobs.c.id.desc()).limit(limit).offset(offset)
        if states:
            statement = statement.where(jobs.c.state.in_([state.value for state in states]))
        if series_instance_uid is not None:
            statement = statement.where(jobs.c.series_instance_uid == series_instance_uid)
        with self._database.read() as connection:
            return tuple(job_row(row) for row in connection.execute(statement))

    def queued_for_others(self, pipeline_digest: str, *, limit: int = 100) -> tuple[JobRow, ...]:
        """Return queued or waiting jobs that are for another pipeline or have no route, the oldest first."""
        statement = (
            sa.select(*JOB_COLUMNS)
            .where(
                jobs.c.state.in_((JobState.QUEUED.value, JobState.WAITING.value)),
                (jobs.c.pipeline_digest != pipeline_digest) | jobs.c.rule_name.is_(None),
            )
            .order_by(jobs.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(job_row(row) for row in connection.execute(statement))

    def events(self, job_id: int) -> tuple[JobEventRow, ...]:
        """Return the transitions of a job in order."""
        statement = sa.select(*_EVENT_COLUMNS).where(job_events.c.job_id == job_id).order_by(job_events.c.id)
        with self._database.read() as connection:
            rows = [row._asdict() for row in connection.execute(statement)]
        for values in rows:
            values["from_state"] = JobState(values["from_state"]) if values["from_state"] else None
            values["to_state"] = JobState(values["to_state"])
        return tuple(JobEventRow(**values) for values in rows)

    def results(self, job_id: int) -> tuple[ResultRow, ...]:
        """Return the results of a job."""
        with self._database.read() as connection:
            return result_rows(connection, job_id)

    def predecessors(self, job: JobRow) -> tuple[ResultRow, ...]:
        """Return the results that those of a job replace: all results of earlier generations of its series."""
        with self._database.read() as connection:
            return predecessor_rows(connection, job)

    def unfinished_by_pipeline(self) -> dict[str, int]:
        """Return the number of queued and waiting jobs for each pipeline digest."""
        statement = (
            sa.select(jobs.c.pipeline_digest, sa.func.count().label("n_jobs"))
            .where(jobs.c.state.in_((JobState.QUEUED.value, JobState.WAITING.value)))
            .group_by(jobs.c.pipeline_digest)
        )
        with self._database.read() as connection:
            return {row.pipeline_digest: row.n_jobs for row in connection.execute(statement)}

    def counts(self) -> dict[JobState, int]:
        """Return the number of jobs in each state, for `status`; states without jobs are left out."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state))
            return {JobState(state): n for state, n in rows}


def _job(connection: sa.Connection, job_id: int, *, is_to_move: bool = False) -> JobRow:
    """Read a job; one that is to be moved is locked, since a worker may claim it at this moment."""
    statement = sa.select(*JOB_COLUMNS).where(jobs.c.id == job_id)
    row = connection.execute(statement.with_for_update() if is_to_move else statement).one_or_none()
    if row is None:
        raise NotFoundError("job", str(job_id))
    return job_row(row)


def _held_job(connection: sa.Connection, job_id: int, owner: str) -> JobRow:
    job = _job(connection, job_id)
    if job.state is not JobState.RUNNING or job.owner != owner:
        raise LeaseLostError("job", job_id, owner)
    return job

"""The outbox of notices: one row for each study and target, about the newest state of the study.

A notice is claimed with a lease, so one study is told to one target by one process at a time and in the order of its
states. A state that a later one replaced before it was told is never told.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import IllegalTransitionError, LeaseLostError, NotFoundError
from dicom_node.store.schema import announcements, notices, studies
from dicom_node.store.states import JobState
from dicom_node.store.work.announcements import announce_study, announcement_of
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.notice_rows import AnnouncementRow, DescribeStudy, NoticeRow

_COLUMNS = [notices.c[name] for name in NoticeRow.__dataclass_fields__]


class Notices:
    """Notices of studies' states to targets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_target(self, target: str) -> int:
        """Queue a notice to a new target for every study that was announced before; return their number."""
        known = sa.select(notices.c.id).where(
            notices.c.target == target, notices.c.study_instance_uid == announcements.c.study_instance_uid
        )
        newest = (
            sa.select(
                announcements.c.study_instance_uid,
                sa.literal(target),
                sa.func.max(announcements.c.version),
                sa.literal(JobState.QUEUED.value),
                sa.literal(0),
            )
            .where(~known.exists())
            .group_by(announcements.c.study_instance_uid)
        )
        with self._database.read() as connection:  # most calls find nothing and need no write lock
            if connection.execute(newest.limit(1)).first() is None:
                return 0
        columns = ["study_instance_uid", "target", "version", "state", "attempt_number"]
        with self._database.write() as connection:
            return connection.execute(sa.insert(notices).from_select(columns, newest)).rowcount

    def claim_due(
        self,
        target: str,
        owner: str,
        now: datetime,
        lease_s: float,
        *,
        describe: DescribeStudy,
        targets: Sequence[str],
    ) -> tuple[NoticeRow, AnnouncementRow] | None:
        """Claim the next notice to a target, and return it with what it says; None if none is due.

        A study that is marked is announced first, in the same transaction: what is sent is what holds now.
        """
        with self._database.read() as connection:  # most calls find nothing and need no write lock
            if _first_due(connection, target, now) is None:
                return None
        with self._database.write() as connection:
            due = _first_due(connection, target, now)
            if due is None:
                return None
            notice_id, study_instance_uid = due
            marked = sa.select(studies.c.study_instance_uid).where(
                studies.c.study_instance_uid == study_instance_uid, studies.c.announced_for.is_(None)
            )
            if connection.execute(marked).first() is not None:
                announce_study(connection, study_instance_uid, describe, targets, now)
            claimed = connection.execute(
                sa.update(notices)
                .where(notices.c.id == notice_id)
                .values(
                    state=JobState.RUNNING.value,
                    owner=owner,
                    lease_expires_at=now + timedelta(seconds=lease_s),
                    attempt_number=notices.c.attempt_number + 1,
                    retry_at=None,
                )
                .returning(*_COLUMNS)
            ).one()
            return _notice_row(claimed), announcement_of(connection, claimed.study_instance_uid, claimed.version)

    def heartbeat(self, claimed: NoticeRow, now: datetime, lease_s: float) -> bool:
        """Extend the lease; return False if the notice no longer belongs to the owner."""
        extend = (
            sa.update(notices)
            .where(
                notices.c.id == claimed.id,
                notices.c.state == JobState.RUNNING.value,
                notices.c.owner == claimed.owner,
            )
            .values(lease_expires_at=now + timedelta(seconds=lease_s))
        )
        with self._database.write() as connection:
            return connection.execute(extend).rowcount == 1

    def succeed(self, claimed: NoticeRow, told_state: str, now: datetime) -> None:
        """Record what the target was told, and add it to the audit trail.

        Raises
        ------
        LeaseLostError
            The notice is no longer the owner's.
        """
        with self._database.write() as connection:
            held = _held(connection, claimed)
            is_newest = held.version == claimed.version
            state = JobState.SUCCEEDED if is_newest else JobState.QUEUED
            connection.execute(
                _release(held, state, attempt_number=0 if not is_newest else held.attempt_number).values(
                    told_version=claimed.version,
                    told_state=told_state,
                    told_at=now,
                    error_code=None,
                    error_message=None,
                )
            )
            detail = {
                "target": held.target,
                "version": claimed.version,
                "state": told_state,
                "before": held.told_state,
                "before_version": held.told_version,
            }
            add_audit(connection, "notice-told", actor="node", subject=held.study_instance_uid, now=now, detail=detail)

    def fail(self, claimed: NoticeRow, *, code: str, message: str, retry_at: datetime | None) -> JobState:
        """End the attempt: wait until ``retry_at``, or become dead if that is None; raises the error of `succeed`.

        A notice that is about a later state by now is queued at once.
        """
        with self._database.write() as connection:
            held = _held(connection, claimed)
            if held.version != claimed.version:
                state, retry_at, n_attempts = JobState.QUEUED, None, 0
            else:
                state = JobState.DEAD if retry_at is None else JobState.WAITING
                n_attempts = held.attempt_number
            values = {"retry_at": retry_at, "error_code": code, "error_message": message}
            connection.execute(_release(held, state, attempt_number=n_attempts).values(**values))
        return state

    def retry(self, notice_id: int) -> NoticeRow:
        """Queue a notice again that is dead, waiting or told already; raise `IllegalTransitionError` for any other."""
        with self._database.write() as connection:
            notice = _notice(connection, notice_id)
            if notice.state is JobState.RUNNING:
                raise IllegalTransitionError("notice", notice_id, notice.state, JobState.QUEUED, ("waiting",))
            connection.execute(_release(notice, JobState.QUEUED, attempt_number=0).values(retry_at=None))
            return _notice(connection, notice_id)

    def retry_all(self, target: str) -> int:
        """Queue every dead or waiting notice to a target again; return their number."""
        unfinished = (JobState.DEAD.value, JobState.WAITING.value)
        queue = (
            sa.update(notices)
            .where(notices.c.target == target, notices.c.state.in_(unfinished))
            .values(state=JobState.QUEUED.value, attempt_number=0, retry_at=None)
        )
        with self._database.write() as connection:
            return connection.execute(queue).rowcount

    def list(
        self,
        *,
        states: Sequence[JobState] = (),
        target: str | None = None,
        study_instance_uid: str | None = None,
        limit: int = 100,
    ) -> tuple[NoticeRow, ...]:
        """Return notices, the newest state first."""
        statement = sa.select(*_COLUMNS).order_by(notices.c.version.desc(), notices.c.id).limit(limit)
        if states:
            statement = statement.where(notices.c.state.in_([state.value for state in states]))
        if target is not None:
            statement = statement.where(notices.c.target == target)
        if study_instance_uid is not None:
            statement = statement.where(notices.c.study_instance_uid == study_instance_uid)
        with self._database.read() as connection:
            return tuple(map(_notice_row, connection.execute(statement)))

    def counts(self) -> dict[JobState, int]:
        """Return the number of notices in each state, for `status`; states without notices are left out."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(notices.c.state, sa.func.count()).group_by(notices.c.state))
            return {JobState(state): n for state, n in rows}


def _first_due(connection: sa.Connection, target: str, now: datetime) -> tuple[int, str] | None:
    """Return number and study of the first notice that is due; each question is answered by one place in the index."""
    for state, is_due in (
        (JobState.RUNNING, notices.c.lease_expires_at < now),
        (JobState.WAITING, notices.c.retry_at <= now),
        (JobState.QUEUED, sa.true()),
    ):
        first = (
            sa.select(notices.c.id, notices.c.study_instance_uid)
            .where(notices.c.target == target, notices.c.state == state.value, is_due)
            .order_by(notices.c.id)
            .limit(1)
        )
        row = connection.execute(first).one_or_none()
        if row is not None:
            return row.id, row.study_instance_uid
    return None


def _notice_row(row: sa.Row[Any]) -> NoticeRow:
    values = row._asdict()
    values["state"] = JobState(values["state"])
    return NoticeRow(**values)


def _notice(connection: sa.Connection, notice_id: int) -> NoticeRow:
    row = connection.execute(sa.select(*_COLUMNS).where(notices.c.id == notice_id)).one_or_none()
    if row is None:
        raise NotFoundError("notice", str(notice_id))
    return _notice_row(row)


def _held(connection: sa.Connection, claimed: NoticeRow) -> NoticeRow:
    notice = _notice(connection, claimed.id)
    if notice.state is not JobState.RUNNING or notice.owner != claimed.owner:
        raise LeaseLostError("notice", claimed.id, str(claimed.owner))
    return notice


def _release(notice: NoticeRow, state: JobState, *, attempt_number: int) -> sa.Update:
    return (
        sa.update(notices)
        .where(notices.c.id == notice.id)
        .values(state=state.value, owner=None, lease_expires_at=None, attempt_number=attempt_number)
    )

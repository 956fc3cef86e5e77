"""States of studies as others are told them: a history, and the marks that say which studies are to be looked at again.

Whatever changes a study's state or adds a decision sets ``studies.announced_for`` to NULL in the same transaction. So
nothing is forgotten when a process is killed, and nothing needs to be searched for: `announce` looks at the marked
studies only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import announcements, notices, studies
from dicom_node.store.states import JobState, StudyState
from dicom_node.store.work.decisions import newest_decision
from dicom_node.store.work.evidence import study_evidence
from dicom_node.store.work.notice_rows import AnnouncementRow, DescribeStudy, StudyStanding
from dicom_node.store.work.studies import STUDY_COLUMNS, study_row_of

_COLUMNS = [announcements.c[name] for name in AnnouncementRow.__dataclass_fields__]
_STUDIES_AT_ONCE = 20  # in one transaction, for which receivers wait


class Announcements:
    """States of studies as others are told them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def announce(self, describe: DescribeStudy, targets: Sequence[str], now: datetime) -> int:
        """Look at all marked studies, and add an announcement where the standing has changed; return how many were.

        Parameters
        ----------
        targets
            Names of the targets that are to be told.
        """
        marked = (
            sa.select(studies.c.study_instance_uid)
            .where(studies.c.announced_for.is_(None))
            .order_by(studies.c.study_instance_uid)
            .limit(_STUDIES_AT_ONCE)
        )
        n_changed = 0
        after = ""
        while True:
            with self._database.read() as connection:  # most calls find nothing and need no write lock
                uids = connection.execute(marked.where(studies.c.study_instance_uid > after)).scalars().all()
            if not uids:
                return n_changed
            with self._database.write() as connection:
                n_changed += sum(announce_study(connection, uid, describe, targets, now) for uid in uids)
            after = uids[-1]

    def mark_outdated(self, gate_digest: str | None) -> int:
        """Mark studies that were announced for other rules or another pipeline, or as another state; return how many.

        Parameters
        ----------
        gate_digest
            Of the node's current rules and pipeline; None if it is unknown, and then not compared.
        """
        is_outdated = studies.c.announced_state != studies.c.state
        if gate_digest is not None:
            is_outdated |= studies.c.announced_for != gate_digest
        is_outdated &= studies.c.announced_for.is_not(None)
        with self._database.read() as connection:
            if connection.execute(sa.select(studies.c.study_instance_uid).where(is_outdated).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            return connection.execute(sa.update(studies).where(is_outdated).values(announced_for=None)).rowcount

    def of(self, study_instance_uid: str, *, limit: int = 100) -> tuple[AnnouncementRow, ...]:
        """Return the announced states of a study, the newest first."""
        statement = _newest_first(study_instance_uid).limit(limit)
        with self._database.read() as connection:
            return tuple(map(announcement_row, connection.execute(statement)))


def announce_study(
    connection: sa.Connection, study_instance_uid: str, describe: DescribeStudy, targets: Sequence[str], now: datetime
) -> bool:
    """Add an announcement if the study's standing has changed, within the caller's write transaction."""
    row = connection.execute(
        sa.select(*STUDY_COLUMNS).where(studies.c.study_instance_uid == study_instance_uid)
    ).one_or_none()
    if row is None:
        return False
    study = study_row_of(row)
    decision = newest_decision(connection, study_instance_uid)
    found = describe(study, decision, lambda: study_evidence(connection, study_instance_uid))
    connection.execute(
        sa.update(studies)
        .where(studies.c.study_instance_uid == study_instance_uid)
        .values(announced_for=found.gate_digest, announced_state=study.state.value)
    )
    last = connection.execute(_newest_first(study_instance_uid).limit(1)).one_or_none()
    if last is not None and _says(announcement_row(last), found):
        return False
    _add(connection, study_instance_uid, found, last, targets, now)
    return True


def announce_deletion(connection: sa.Connection, study_instance_uid: str, now: datetime) -> None:
    """Tell every target that was told of a study that it is open, so that no earlier clearance stays there."""
    last = connection.execute(_newest_first(study_instance_uid).limit(1)).one_or_none()
    if last is not None:
        gone = StudyStanding(StudyState.OPEN.value, None, {}, None, last.gate_digest)
        _add(connection, study_instance_uid, gone, last, (), now)


def _add(
    connection: sa.Connection,
    study_instance_uid: str,
    found: StudyStanding,
    last: sa.Row[Any] | None,
    targets: Sequence[str],
    now: datetime,
) -> None:
    # Milliseconds since 1970, so that versions also grow if the database is lost and a target keeps the last one.
    version = max(0 if last is None else last.version + 1, int(now.timestamp() * 1000))
    connection.execute(
        sa.insert(announcements).values(
            study_instance_uid=study_instance_uid,
            version=version,
            state=found.state,
            decided_by=found.decided_by,
            standings=json.dumps(dict(found.standings), sort_keys=True),
            evidence_fingerprint=found.evidence_fingerprint,
            gate_digest=found.gate_digest,
            since=now,
        )
    )
    _queue_notices(connection, study_instance_uid, version, targets)


def announcement_row(row: sa.Row[Any]) -> AnnouncementRow:
    """Return a row of ``announcements`` as a value."""
    values = row._asdict()
    return AnnouncementRow(**values | {"standings": json.loads(values["standings"])})


def announcement_of(connection: sa.Connection, study_instance_uid: str, version: int) -> AnnouncementRow:
    """Return one announcement."""
    statement = sa.select(*_COLUMNS).filter_by(study_instance_uid=study_instance_uid, version=version)
    return announcement_row(connection.execute(statement).one())


def _newest_first(study_instance_uid: str) -> sa.Select[Any]:
    return (
        sa.select(*_COLUMNS)
        .where(announcements.c.study_instance_uid == study_instance_uid)
        .order_by(announcements.c.version.desc())
    )


def _says(last: AnnouncementRow, found: StudyStanding) -> bool:
    """Whether an announcement says the same as a standing, the digest of the rules apart."""
    compared = ("state", "decided_by", "standings", "evidence_fingerprint")
    return all(getattr(last, name) == getattr(found, name) for name in compared)


def _queue_notices(connection: sa.Connection, study_instance_uid: str, version: int, targets: Sequence[str]) -> None:
    """Let every notice of a study be about ``version``; one that is being sent is sent again afterwards."""
    is_running = notices.c.state == JobState.RUNNING.value
    known = connection.execute(
        sa.update(notices)
        .where(notices.c.study_instance_uid == study_instance_uid)
        .values(
            version=version,
            state=sa.case((is_running, notices.c.state), else_=JobState.QUEUED.value),
            attempt_number=sa.case((is_running, notices.c.attempt_number), else_=0),
            retry_at=None,
            error_code=None,
            error_message=None,
        )
        .returning(notices.c.target)
    ).scalars()
    for target in sorted(set(targets) - set(known)):
        connection.execute(
            sa.insert(notices).values(
                study_instance_uid=study_instance_uid,
                target=target,
                version=version,
                state=JobState.QUEUED.value,
                attempt_number=0,
            )
        )

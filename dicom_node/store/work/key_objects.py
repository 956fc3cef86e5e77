"""Key Object Selection Documents, one for each study that may leave: results that belong to a study, not to a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.index.filing import Filed
from dicom_node.store.index.rows import StudyRow
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.schema import decisions, deliveries, instances, results, series, studies, without_index
from dicom_node.store.states import JobState, Origin, SeriesState, StudyState
from dicom_node.store.work.decisions import read_study
from dicom_node.store.work.delivery_queries import queue_delivery
from dicom_node.store.work.outcomes import add_instance, file_results, hide_result, show_result
from dicom_node.store.work.rows import DecisionKind, DecisionRow, NewResult
from dicom_node.store.work.studies import STUDY_COLUMNS, study_row_of

KIND = "kos"
WITHDRAWN = "withdrawn"
"""Error code of a delivery that was stopped because its document is no longer the current one."""
_UNDELIVERED = (JobState.QUEUED.value, JobState.WAITING.value, JobState.RUNNING.value)

MayGo = Callable[[StudyRow, str, DecisionRow | None], bool]
"""Whether a study may leave: asked with the study, the fingerprint of its evidence and the newest decision on it."""


def _current_of(study_instance_uid: sa.ColumnElement[str]) -> sa.Select[Any]:
    """Return the current document of a study: the one that queries find."""
    return (
        sa.select(results.c.id, results.c.sop_instance_uid, results.c.evidence_fingerprint)
        .join_from(results, instances, instances.c.sop_instance_uid == results.c.sop_instance_uid)
        .where(
            results.c.study_instance_uid == study_instance_uid,
            results.c.kind == KIND,
            instances.c.superseded_at.is_(None),
        )
    )


class _ChangedError(Exception):
    """The study may not leave, or its evidence is another, now that the write lock is held."""


class KeyObjects:
    """The documents that say which studies may leave."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def unsettled(self, *, after: str = "", limit: int = 500) -> tuple[StudyRow, ...]:
        """Return studies that may want a document, or no longer have a right to theirs, in the order of their UIDs.

        Only the rules of the gate can tell which; a study that is settled is not among them.

        Parameters
        ----------
        after
            The last Study Instance UID of the previous page.
        """
        uid = studies.c.study_instance_uid
        current = _current_of(uid).correlate(studies)
        of_study = decisions.c.study_instance_uid == uid
        is_released = sa.select(decisions.c.id).where(of_study, decisions.c.kind == DecisionKind.RELEASE.value)
        is_held = sa.select(decisions.c.id).where(of_study, decisions.c.kind == DecisionKind.HOLD.value)
        are_sources_gone = sa.select(series.c.series_instance_uid).where(
            series.c.study_instance_uid == uid,
            series.c.origin == Origin.RECEIVED.value,
            without_index(series.c.state) == SeriesState.DELETED.value,
            series.c.skip_reason.is_(None),
        )
        lacks_document = sa.and_(
            studies.c.state != StudyState.OPEN.value,
            sa.or_(studies.c.state == StudyState.CLEARED.value, is_released.exists()),
            ~current.where(results.c.evidence_fingerprint == studies.c.evidence_fingerprint).exists(),
            ~are_sources_gone.exists(),
        )
        has_doubtful = sa.and_(sa.or_(studies.c.state != StudyState.CLEARED.value, is_held.exists()), current.exists())
        statement = (
            sa.select(*STUDY_COLUMNS)
            .where(uid > after, sa.or_(lacks_document, has_doubtful))
            .order_by(uid)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(map(study_row_of, connection.execute(statement)))

    def fingerprint(self, study_instance_uid: str) -> str | None:
        """Return the fingerprint of the evidence that the current document is based on; None if there is none."""
        with self._database.read() as connection:
            row = connection.execute(_current_of(sa.literal(study_instance_uid))).first()
        return None if row is None else row.evidence_fingerprint

    def current(self, study_instance_uids: Sequence[str]) -> dict[str, str]:
        """Return the SOP Instance UID of the current document of each of these studies that has one."""
        statement = (
            sa.select(results.c.study_instance_uid, results.c.sop_instance_uid)
            .join_from(results, instances, instances.c.sop_instance_uid == results.c.sop_instance_uid)
            .where(
                results.c.study_instance_uid.in_(study_instance_uids),
                results.c.kind == KIND,
                instances.c.superseded_at.is_(None),
            )
        )
        with self._database.read() as connection:
            return {row.study_instance_uid: row.sop_instance_uid for row in connection.execute(statement)}

    def publish(
        self,
        study_instance_uid: str,
        document: NewResult,
        *,
        fingerprint: str,
        deliver_to: Sequence[str],
        may_go: MayGo,
        now: datetime,
    ) -> bool:
        """Make a document the current one of its study and queue its deliveries, in one transaction.

        A document with the same content as an earlier one is that one, and is sent only to peers that do not have it.

        Parameters
        ----------
        fingerprint
            Of the evidence that the document is based on.
        may_go
            Asked under the write lock; if it says no, or the evidence is another, nothing is published.

        Returns
        -------
        bool
            Whether the document is the current one.
        """
        try:
            with file_results(self._objects, [document], now) as filed, self._database.write() as connection:
                ((spool, one),) = filed
                _check(connection, study_instance_uid, fingerprint, may_go)
                self._objects.restore(connection, spool, one.digest)
                for row in connection.execute(_current_of(sa.literal(study_instance_uid))).all():
                    if row.sop_instance_uid != document.sop_instance_uid:
                        _withdraw(connection, row.id, row.sop_instance_uid, now)
                add_instance(connection, one, now)
                show_result(connection, document.sop_instance_uid)
                result_id = _keep_row(connection, study_instance_uid, document, fingerprint, now)
                for peer in dict.fromkeys(deliver_to):
                    _deliver(connection, one, result_id, peer, now)
        except _ChangedError:
            return False
        return True

    def withdraw(self, study_instance_uid: str, *, may_go: MayGo, now: datetime) -> bool:
        """Take the document of a study that may no longer leave out of what queries find, and stop its deliveries.

        A peer that has it keeps it: nothing that would make archives hide or delete images is sent.

        Returns
        -------
        bool
            Whether there was one and it was withdrawn.
        """
        with self._database.write() as connection:
            try:
                study, known, decision = read_study(connection, study_instance_uid)
            except NotFoundError:
                return False
            if may_go(study, known, decision):
                return False
            rows = connection.execute(_current_of(sa.literal(study_instance_uid))).all()
            for row in rows:
                _withdraw(connection, row.id, row.sop_instance_uid, now)
            return bool(rows)


def _check(connection: sa.Connection, study_instance_uid: str, fingerprint: str, may_go: MayGo) -> None:
    study, known, decision = read_study(connection, study_instance_uid)
    if known != fingerprint or not may_go(study, known, decision):
        raise _ChangedError


def _withdraw(connection: sa.Connection, result_id: int, sop_instance_uid: str, now: datetime) -> None:
    hide_result(connection, sop_instance_uid, now)
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.result_id == result_id, deliveries.c.state.in_(_UNDELIVERED))
        .values(
            state=JobState.CANCELLED.value,
            owner=None,
            lease_expires_at=None,
            retry_at=None,
            ended_at=now,
            error_code=WITHDRAWN,
            error_message="the study may no longer leave, or has a newer document",
        )
    )


def _keep_row(
    connection: sa.Connection, study_instance_uid: str, document: NewResult, fingerprint: str, now: datetime
) -> int:
    known = (
        sa.update(results)
        .where(
            results.c.study_instance_uid == study_instance_uid, results.c.sop_instance_uid == document.sop_instance_uid
        )
        .values(evidence_fingerprint=fingerprint)
        .returning(results.c.id)
    )
    result_id = connection.execute(known).scalar()
    if result_id is None:
        new = sa.insert(results).values(
            job_id=None,
            study_instance_uid=study_instance_uid,
            evidence_fingerprint=fingerprint,
            kind=KIND,
            stack_number=document.stack_number,
            sop_instance_uid=document.sop_instance_uid,
            created_at=now,
        )
        result_id = connection.execute(new.returning(results.c.id)).scalar_one()
    return int(result_id)


def _deliver(connection: sa.Connection, filed: Filed, result_id: int, peer: str, now: datetime) -> None:
    """Queue a delivery, unless there is one; one that was stopped when the document was withdrawn is queued again."""
    newest = (
        sa.select(deliveries.c.id, deliveries.c.state, deliveries.c.error_code)
        .where(deliveries.c.result_id == result_id, deliveries.c.peer == peer)
        .order_by(deliveries.c.id.desc())
        .limit(1)
    )
    known = connection.execute(newest).one_or_none()
    if known is None:
        queue_delivery(connection, filed, peer, now, result_id=result_id)
    elif (known.state, known.error_code) == (JobState.CANCELLED.value, WITHDRAWN):
        renewed = {"state": JobState.QUEUED.value, "attempt_number": 0, "ended_at": None}
        connection.execute(
            sa.update(deliveries)
            .where(deliveries.c.id == known.id)
            .values(**renewed, error_code=None, error_message=None)
        )

"""Conflicts that people settle: the first content stays the instance, and the other one counts no more."""

from __future__ import annotations

import json
from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.schema import audit, conflicts, series, studies
from dicom_node.store.states import Origin
from dicom_node.store.work.transitions import STUDY_REOPENED


class Conflicts:
    """Conflicts between two contents of one SOP Instance UID."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def settle(self, conflict_id: int, *, reason: str, decided_by: str, now: datetime) -> bool:
        """Keep the first content; return False, and change nothing, where the conflict is settled already.

        The other bytes stay on disk. The study is open until it is judged without the conflict. The audit trail says
        who settled it, and why.

        Raises
        ------
        NotFoundError
            There is no such conflict.
        """
        settle = (
            sa.update(conflicts)
            .where(conflicts.c.id == conflict_id, conflicts.c.settled_at.is_(None))
            .values(settled_at=now)
            .returning(conflicts.c.sop_instance_uid, conflicts.c.series_instance_uid)
        )
        with self._database.write() as connection:
            settled = connection.execute(settle).one_or_none()
            if settled is None:
                known = sa.select(conflicts.c.id).where(conflicts.c.id == conflict_id)
                if connection.execute(known).first() is None:
                    raise NotFoundError("conflict", str(conflict_id))
                return False
            detail = {"conflict": conflict_id, "reason": reason}
            connection.execute(
                sa.insert(audit).values(
                    actor=decided_by,
                    action="conflict-settled",
                    subject=settled.sop_instance_uid,
                    detail=json.dumps(detail, ensure_ascii=False),
                    occurred_at=now,
                )
            )
            doubted = sa.select(series.c.study_instance_uid).where(
                series.c.series_instance_uid == settled.series_instance_uid, series.c.origin == Origin.RECEIVED.value
            )
            connection.execute(
                sa.update(studies).where(studies.c.study_instance_uid.in_(doubted)).values(**STUDY_REOPENED)
            )
        return True

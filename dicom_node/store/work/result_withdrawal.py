"""Take results out of the archive because an administrator says so, with an entry in the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.schema import deliveries, instances, results
from dicom_node.store.states import JobState, Origin
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.outcomes import hide_result

ACTION = "results withdrawn"
WITHDRAWN = "withdrawn"
_UNDELIVERED = (JobState.QUEUED.value, JobState.WAITING.value)


class ResultWithdrawal:
    """Withdraws SEG, SR and KOS objects that this node wrote; what was received is never touched."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def withdraw(
        self, *, series_instance_uid: str, sop_instance_uid: str | None = None, actor: str, now: datetime
    ) -> Sequence[str]:
        """Hide results from queries and from those who retrieve their series or study, and stop their deliveries.

        A peer that has one keeps it. By its own UID a result can still be retrieved, like one that a later result has
        replaced, because other objects may refer to it.

        Returns
        -------
        Sequence of str
            SOP Instance UIDs of the results.

        Raises
        ------
        NotFoundError
            The series has no such result, or it is withdrawn already.
        """
        chosen = [instances.c.series_instance_uid == series_instance_uid, instances.c.superseded_at.is_(None)]
        if sop_instance_uid is not None:
            chosen.append(instances.c.sop_instance_uid == sop_instance_uid)
        found = sa.select(instances.c.sop_instance_uid).where(*chosen, instances.c.origin == Origin.NODE.value)
        with self._database.write() as connection:
            uids = connection.execute(found.order_by(instances.c.id)).scalars().all()
            if not uids:
                raise NotFoundError("result of series", series_instance_uid)
            for uid in uids:
                hide_result(connection, uid, now)
            of_results = sa.select(results.c.id).where(results.c.sop_instance_uid.in_(uids))
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.result_id.in_(of_results), deliveries.c.state.in_(_UNDELIVERED))
                .values(
                    state=JobState.CANCELLED.value,
                    owner=None,
                    lease_expires_at=None,
                    retry_at=None,
                    ended_at=now,
                    error_code=WITHDRAWN,
                    error_message="an administrator has withdrawn the result",
                )
            )
            detail = {"sop_instance_uids": list(uids)}
            add_audit(connection, ACTION, actor=actor, subject=series_instance_uid, now=now, detail=detail)
        return tuple(uids)

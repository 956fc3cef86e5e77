"""Close a series with its jobs in one transaction, or start a closed one over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.index.rows import SeriesRow
from dicom_node.store.schema import series, studies
from dicom_node.store.states import Origin, SeriesState, StudyState
from dicom_node.store.work.rows import Closing, JobPlan, Skip
from dicom_node.store.work.transitions import REOPENED, queue_jobs, supersede_work


class SeriesClosing:
    """The step from a series that receives to its jobs, and back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def complete(
        self, series_row: SeriesRow, plan: Sequence[JobPlan] | Skip, now: datetime, closing: Closing | None = None
    ) -> bool:
        """Close a generation and queue its jobs; False, and nothing done, when the series is no longer as given.

        Parameters
        ----------
        series_row
            The series as the plan was made for it; an instance that came since makes the call void.
        plan
            The jobs that routing wants, at least one, or why it wants none.
        """
        if not isinstance(plan, Skip) and not plan:
            raise ValueError(f"series {series_row.series_instance_uid}: an empty plan; say why with Skip")
        closing = closing or Closing()
        is_skipped = isinstance(plan, Skip)
        close = (
            sa.update(series)
            .where(
                series.c.series_instance_uid == series_row.series_instance_uid,
                series.c.state == SeriesState.RECEIVING.value,
                series.c.generation == series_row.generation,
                series.c.n_instances == series_row.n_instances,
            )
            .values(
                state=(SeriesState.SKIPPED if is_skipped else SeriesState.COMPLETE).value,
                skip_reason=plan.reason if isinstance(plan, Skip) else None,
                completed_at=now,
                forced_at=None,
                waits_because=None,
                complete_because=closing.because or None,
                is_doubted=closing.is_doubted,
                pipeline_digest=closing.pipeline_digest,
            )
        )
        with self._database.write() as connection:
            if connection.execute(close).rowcount != 1:
                return False
            if not isinstance(plan, Skip):
                queue_jobs(connection, series_row, plan, now)
        return True

    def reopen(self, series_instance_uid: str, now: datetime) -> bool:
        """Start a closed series over as a new generation of the same instances; False when it is not closed.

        What is left to do for earlier generations is superseded, and the study is open again until it is judged.
        """
        closed = (SeriesState.COMPLETE.value, SeriesState.SKIPPED.value)
        start_over = (
            sa.update(series)
            .where(
                series.c.series_instance_uid == series_instance_uid,
                series.c.origin == Origin.RECEIVED.value,
                series.c.state.in_(closed),
            )
            .values(
                state=SeriesState.RECEIVING.value,
                generation=series.c.generation + 1,
                **REOPENED,
            )
            .returning(series.c.generation, series.c.study_instance_uid)
        )
        with self._database.write() as connection:
            row = connection.execute(start_over).one_or_none()
            if row is None:
                return False
            supersede_work(connection, series_instance_uid, row.generation, now)
            connection.execute(
                sa.update(studies)
                .where(studies.c.study_instance_uid == row.study_instance_uid)
                .values(state=StudyState.OPEN.value)
            )
        return True

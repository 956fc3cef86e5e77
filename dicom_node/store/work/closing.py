"""Close a series with its job in one transaction, or start a closed one over."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.index.rows import SeriesRow
from dicom_node.store.schema import series, studies
from dicom_node.store.states import Origin, SeriesState
from dicom_node.store.work.delivery_queries import queue_sources
from dicom_node.store.work.rows import Closing, Route, Skip
from dicom_node.store.work.transitions import REOPENED, STUDY_REOPENED, queue_job, supersede_work


class SeriesClosing:
    """Transitions from a receiving series to its job, and back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def complete(self, series_row: SeriesRow, closing: Closing, now: datetime) -> bool:
        """Close a generation, queue its job, unless it is skipped, and forward its instances where that is wanted.

        Parameters
        ----------
        series_row
            The series as it was when the decision was made.

        Returns
        -------
        bool
            False, with nothing changed, if the series has changed since: another instance arrived, or it was closed.
        """
        skip = closing.decision if isinstance(closing.decision, Skip) else None
        close = (
            sa.update(series)
            .where(
                series.c.series_instance_uid == series_row.series_instance_uid,
                series.c.state == SeriesState.RECEIVING.value,
                series.c.generation == series_row.generation,
                series.c.n_instances == series_row.n_instances,
            )
            .values(
                state=(SeriesState.COMPLETE if skip is None else SeriesState.SKIPPED).value,
                skip_reason=None if skip is None else skip.reason,
                completed_at=now,
                forced_at=None,
                waits_because=None,
                complete_because=closing.because,
                is_doubted=closing.is_doubted,
                pipeline_digest=closing.pipeline_digest,
            )
        )
        with self._database.write() as connection:
            if connection.execute(close).rowcount != 1:
                return False
            if isinstance(closing.decision, Route):
                queue_job(connection, series_row, closing, closing.decision, now)
            for peer in dict.fromkeys(closing.forward_to):
                queue_sources(connection, series_row.series_instance_uid, peer, now)
        return True

    def reopen(self, series_instance_uid: str, now: datetime) -> bool:
        """Start a closed series over as a new generation of the same instances; return False if it is not closed.

        Unfinished work on earlier generations is superseded, and the study is open again until it is judged.
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
                .values(**STUDY_REOPENED)
            )
        return True

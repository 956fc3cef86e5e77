"""Delete received instances once all their results are finished and delivered; the results stay.

Rows are deleted first, then files. Before that, each object is linked into the spool, so that a crash in between
leaves a trace for the next start. Files are deleted under the index's write lock, after a check that no row names them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.index.rows import SeriesRow
from dicom_node.store.index.series import series_row_of
from dicom_node.store.objects.files import ObjectStore
from dicom_node.store.schema import audit, commitments, conflicts, deliveries, instances, jobs, results, series
from dicom_node.store.states import CommitmentState, JobState, Origin, SeriesState

BATCH = 500  # objects looked up and removed at a time; receiving waits meanwhile
_SERIES_COLUMNS = [series.c[name] for name in SeriesRow.__dataclass_fields__]
_CLOSED = (SeriesState.COMPLETE.value, SeriesState.SKIPPED.value)
_FINISHED_JOBS = (JobState.SUCCEEDED.value, JobState.SUPERSEDED.value)
_FINISHED_DELIVERIES = (JobState.SUCCEEDED.value, JobState.CANCELLED.value, JobState.SUPERSEDED.value)


class Retention:
    """Finds and deletes received instances that are no longer needed."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def due(
        self, before: datetime, *, committing_peers: Collection[str] = (), limit: int = 100
    ) -> tuple[SeriesRow, ...]:
        """Return received series closed before a moment whose jobs and deliveries are all finished; the oldest first.

        A dead or cancelled job and a dead delivery still wait for a person; their series stays. So does one of which
        a peer has not committed to everything that it accepted.

        Parameters
        ----------
        committing_peers
            Names of the peers whose storage commitment is awaited.
        """
        statement = (
            sa.select(*_SERIES_COLUMNS)
            .where(*_IS_FINISHED, *_is_committed(committing_peers), series.c.completed_at < before)
            .order_by(series.c.completed_at)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(series_row_of(row) for row in connection.execute(statement))

    def delete_sources(self, of: SeriesRow, now: datetime, *, committing_peers: Collection[str] = ()) -> bool:
        """Delete the received instances of a series; return False, with nothing deleted, if it is not finished.

        The rows of the series, its jobs, verdicts and results stay, and the audit trail says what was deleted. The
        number of processed instances stays in the row, so that instances that arrive later do not pass for the whole.
        """
        uid = of.series_instance_uid
        of_series = (instances.c.series_instance_uid == uid) & (instances.c.origin == Origin.RECEIVED.value)
        mark = (
            sa.update(series)
            .where(
                *_IS_FINISHED,
                *_is_committed(committing_peers),
                series.c.series_instance_uid == uid,
                series.c.generation == of.generation,
            )
            .values(
                state=SeriesState.DELETED.value,
                n_instances=0,
                n_dataset_bytes=0,
                n_sources_deleted=_MOST_PROCESSED,
            )
        )
        with self._database.read() as connection:
            digests = connection.execute(sa.select(instances.c.digest).where(of_series).distinct()).scalars().all()
        with self._objects.condemn(digests):
            with self._database.write() as connection:
                if connection.execute(mark).rowcount != 1:
                    return False
                n_deleted = connection.execute(sa.delete(instances).where(of_series)).rowcount
                detail = {"n_instances": n_deleted, "n_dataset_bytes": of.n_dataset_bytes, "generation": of.generation}
                connection.execute(
                    sa.insert(audit).values(
                        actor="node",
                        action="sources-deleted",
                        subject=uid,
                        detail=json.dumps(detail),
                        occurred_at=now,
                    )
                )
            remove_unnamed(self._database, self._objects, digests)
        return True


def remove_unnamed(database: Database, objects: ObjectStore, digests: Sequence[str]) -> None:
    """Remove objects that no row names; another series, or a conflict, may have the same bytes."""
    for start in range(0, len(digests), BATCH):
        batch = digests[start : start + BATCH]
        named = sa.union(
            sa.select(instances.c.digest).where(instances.c.digest.in_(batch)),
            sa.select(conflicts.c.digest).where(conflicts.c.digest.in_(batch)),
        )
        with database.write() as connection:  # nobody can add a row meanwhile
            for digest in set(batch) - set(connection.execute(named).scalars()):
                objects.remove(digest)


_MOST_PROCESSED = sa.case(
    (
        (series.c.state == SeriesState.COMPLETE.value) & (series.c.n_instances > series.c.n_sources_deleted),
        series.c.n_instances,
    ),
    else_=series.c.n_sources_deleted,
)
_OF_SERIES = jobs.c.series_instance_uid == series.c.series_instance_uid


def _results_of_series() -> sa.Select[tuple[int]]:
    """Select the deliveries of the results of a series, in a statement on ``series``."""
    return (
        sa.select(deliveries.c.id)
        .join_from(deliveries, results, deliveries.c.result_id == results.c.id)
        .join(jobs, results.c.job_id == jobs.c.id)
        .where(_OF_SERIES)
    )


def _sources_of_series() -> sa.Select[tuple[int]]:
    """Select the deliveries of its received instances."""
    return sa.select(deliveries.c.id).where(
        deliveries.c.result_id.is_(None), deliveries.c.series_instance_uid == series.c.series_instance_uid
    )


_IS_FINISHED = (
    series.c.origin == Origin.RECEIVED.value,
    series.c.state.in_(_CLOSED),
    ~sa.select(jobs.c.id).where(_OF_SERIES, jobs.c.state.not_in(_FINISHED_JOBS)).exists(),
    ~_results_of_series().where(deliveries.c.state.not_in(_FINISHED_DELIVERIES)).exists(),
    ~_sources_of_series().where(deliveries.c.state.not_in(_FINISHED_DELIVERIES)).exists(),
)


def _is_committed(peers: Collection[str]) -> list[sa.ColumnElement[bool]]:
    """Return conditions on a series: ``peers`` have committed to all that they accepted of it and of its results."""
    if not peers:
        return []
    committed = sa.select(commitments.c.delivery_id).where(
        commitments.c.delivery_id == deliveries.c.id, commitments.c.state == CommitmentState.COMMITTED.value
    )
    is_awaited = (
        deliveries.c.peer.in_(peers)
        & (deliveries.c.state == JobState.SUCCEEDED.value)
        & deliveries.c.replaced_by_id.is_(None)
        & ~committed.exists()
    )
    return [~_results_of_series().where(is_awaited).exists(), ~_sources_of_series().where(is_awaited).exists()]

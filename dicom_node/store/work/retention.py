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
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.schema import (
    commitments,
    conflicts,
    deleted_sources,
    deliveries,
    exports,
    instances,
    jobs,
    results,
    series,
    studies,
    without_index,
)
from dicom_node.store.states import CommitmentState, ExportState, JobState, Origin, SeriesState, StudyState
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.delivery_rows import SourceState

BATCH = 500  # objects looked up and removed at a time; receiving waits meanwhile
_CLOSED = (SeriesState.COMPLETE.value, SeriesState.SKIPPED.value)
_FINISHED_JOBS = (JobState.SUCCEEDED.value, JobState.SUPERSEDED.value)
_FINISHED_DELIVERIES = (JobState.SUCCEEDED.value, JobState.CANCELLED.value, JobState.SUPERSEDED.value)


class Retention:
    """Finds and deletes received instances that are no longer needed."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def survey(self, committing_peers: Collection[str] = ()) -> tuple[SourceState, ...]:
        """Return every series with sources; those that were closed first in front, receiving ones at the end.

        Parameters
        ----------
        committing_peers
            Names of the peers whose storage commitment is awaited.
        """
        uncommitted = [~condition for condition in _is_committed(committing_peers)]
        statement = (
            sa.select(
                series.c.series_instance_uid,
                series.c.study_instance_uid,
                studies.c.state.label("study_state"),
                series.c.generation,
                series.c.completed_at,
                series.c.n_instances,
                series.c.n_dataset_bytes,
                _HAS_OPEN_JOBS.label("has_open_jobs"),
                sa.or_(*_open_deliveries()).label("has_open_deliveries"),
                sa.or_(sa.false(), *uncommitted).label("is_uncommitted"),
                _IS_EXPORTED.label("is_exported"),
            )
            .join(studies, studies.c.study_instance_uid == series.c.study_instance_uid)
            .where(
                series.c.origin == Origin.RECEIVED.value,
                series.c.state != SeriesState.DELETED.value,
                series.c.n_instances > 0,
            )
            .order_by(series.c.completed_at.is_(None), series.c.completed_at, series.c.series_instance_uid)
        )
        with self._database.read() as connection:
            rows = [row._asdict() for row in connection.execute(statement)]
        return tuple(SourceState(**row | {"study_state": StudyState(row["study_state"])}) for row in rows)

    def delete_sources(
        self,
        of: SourceState | SeriesRow,
        now: datetime,
        *,
        because: str = "age",
        committing_peers: Collection[str] = (),
        wait_for_export: bool = False,
    ) -> bool:
        """Delete the received instances of a series; return False, with nothing deleted, if something needs them.

        The rows of the series, its jobs, verdicts and results stay, and the audit trail says what was deleted. The
        number of processed instances stays in the row, so that instances that arrive later do not pass for the whole.
        Which instances there were stays too, because they belong to the evidence on the study.
        """
        uid = of.series_instance_uid
        of_series = (instances.c.series_instance_uid == uid) & (instances.c.origin == Origin.RECEIVED.value)
        mark = (
            sa.update(series)
            .where(
                series.c.origin == Origin.RECEIVED.value,
                series.c.state.in_(_CLOSED),
                ~_HAS_OPEN_JOBS,
                *(~condition for condition in _open_deliveries()),
                *_is_committed(committing_peers),
                *([_IS_EXPORTED | _IS_BLOCKED] if wait_for_export else []),
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
                _remember_instances(connection, uid, of_series)
                n_deleted = connection.execute(sa.delete(instances).where(of_series)).rowcount
                detail = {
                    "because": because,
                    "n_instances": n_deleted,
                    "n_dataset_bytes": of.n_dataset_bytes,
                    "generation": of.generation,
                }
                add_audit(connection, "sources-deleted", actor="node", subject=uid, now=now, detail=detail)
            remove_unnamed(self._database, self._objects, digests)
        return True


def remove_unnamed(database: Database, objects: ObjectStore, digests: Sequence[str]) -> int:
    """Remove objects that no row names, and return how many; another series, or a conflict, may have the same bytes."""
    n_removed = 0
    for start in range(0, len(digests), BATCH):
        batch = digests[start : start + BATCH]
        named = sa.union(
            sa.select(instances.c.digest).where(instances.c.digest.in_(batch)),
            sa.select(conflicts.c.digest).where(conflicts.c.digest.in_(batch)),
        )
        with database.write() as connection:  # nobody can add a row meanwhile
            unnamed = sorted(set(batch) - set(connection.execute(named).scalars()))
            objects.begin_removal(connection, unnamed)
        n_removed += len(unnamed) - objects.finish_removal(database, unnamed)
    return n_removed


_MOST_PROCESSED = sa.case(
    (
        (series.c.state == SeriesState.COMPLETE.value) & (series.c.n_instances > series.c.n_sources_deleted),
        series.c.n_instances,
    ),
    else_=series.c.n_sources_deleted,
)
_OF_SERIES = jobs.c.series_instance_uid == series.c.series_instance_uid
_HAS_OPEN_JOBS = sa.select(jobs.c.id).where(_OF_SERIES, jobs.c.state.not_in(_FINISHED_JOBS)).exists()
_IS_EXPORTED = (
    sa.select(exports.c.id)
    .join_from(exports, studies, studies.c.study_instance_uid == exports.c.study_instance_uid)
    .where(
        exports.c.study_instance_uid == series.c.study_instance_uid,
        without_index(exports.c.state) == ExportState.PUBLISHED.value,
        exports.c.evidence_fingerprint == studies.c.evidence_fingerprint,
    )
    .correlate(series)
    .exists()
)
_IS_BLOCKED = (
    sa.select(studies.c.study_instance_uid)
    .where(studies.c.study_instance_uid == series.c.study_instance_uid, studies.c.state == StudyState.BLOCKED.value)
    .correlate(series)
    .exists()
)


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


def _open_deliveries() -> list[sa.ColumnElement[bool]]:
    """Return conditions on a series, one of which holds if something of it is not delivered."""
    # Who asked for a C-MOVE was told what failed; nobody has to decide on it.
    has_ended = deliveries.c.move_id.is_not(None) & (deliveries.c.state == JobState.DEAD.value)
    is_open = deliveries.c.state.not_in(_FINISHED_DELIVERIES) & ~has_ended
    return [_results_of_series().where(is_open).exists(), _sources_of_series().where(is_open).exists()]


def _remember_instances(connection: sa.Connection, uid: str, of_series: sa.ColumnElement[bool]) -> None:
    columns = (instances.c.sop_instance_uid, instances.c.digest, instances.c.patient_id)
    rows = connection.execute(sa.select(*columns).where(of_series)).all()
    lines = [f"{row.sop_instance_uid} {row.digest}" for row in rows]
    patient_ids = sorted({row.patient_id for row in rows}, key=str)
    values = {"instances": "\n".join(lines), "patient_ids": json.dumps(patient_ids, ensure_ascii=False)}
    connection.execute(sa.delete(deleted_sources).where(deleted_sources.c.series_instance_uid == uid))
    connection.execute(sa.insert(deleted_sources).values(series_instance_uid=uid, **values))


def _is_committed(peers: Collection[str]) -> list[sa.ColumnElement[bool]]:
    """Return conditions on a series: ``peers`` have committed to all that they accepted of it and of its results."""
    if not peers:
        return []
    committed = sa.select(commitments.c.delivery_id).where(
        commitments.c.delivery_id == deliveries.c.id, commitments.c.state == CommitmentState.COMMITTED.value
    )
    is_awaited = (
        deliveries.c.peer.in_(peers)
        & (without_index(deliveries.c.state) == JobState.SUCCEEDED.value)
        & deliveries.c.replaced_by_id.is_(None)
        & ~committed.exists()
    )
    return [~_results_of_series().where(is_awaited).exists(), ~_sources_of_series().where(is_awaited).exists()]

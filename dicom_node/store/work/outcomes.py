"""What a job that succeeded leaves behind: objects first, then all rows in the transaction that ends the job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dicom_node.store.errors import ResultConflictError
from dicom_node.store.index.filing import Filed, add_series, add_study, instance_values
from dicom_node.store.index.rows import Arrival
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.objects.spool import Spool
from dicom_node.store.schema import instances, jobs, results, series, studies, verdicts
from dicom_node.store.states import Origin, SeriesState
from dicom_node.store.work.delivery_queries import queue_delivery
from dicom_node.store.work.rows import JobRow, NewResult, Outcome, ResultRow
from dicom_node.store.work.tags import set_tag

if TYPE_CHECKING:
    from dicom_node.store.index.headers import Header

SET_BY_JOB = "node"


@contextmanager
def file_results(
    objects: ObjectStore, new_results: Sequence[NewResult], now: datetime
) -> Iterator[list[tuple[Spool, Filed]]]:
    """Put the objects of results on disk; the block commits their rows.

    When the block fails, a trace of the objects stays in the spool: it tells the next start which have no row.
    """
    from dicom_node.store.index.headers import read_header  # loads pydicom, which most commands do without

    spools = []
    filed = []
    for result in new_results:
        spool = objects.spool(
            sop_class_uid=result.sop_class_uid,
            sop_instance_uid=result.sop_instance_uid,
            transfer_syntax_uid=result.transfer_syntax_uid,
        )
        spools.append(spool)
        spool.write(result.encoded_dataset)
        spool.sync()
        arrival = Arrival(
            sop_class_uid=result.sop_class_uid,
            sop_instance_uid=result.sop_instance_uid,
            transfer_syntax_uid=result.transfer_syntax_uid,
            calling_ae_title="",
            association_id="",
            received_at=now,
        )
        filed.append(Filed(spool.sha256(), spool.dataset_bytes, read_header(spool, arrival), arrival))
    written = list(zip(spools, filed, strict=True))
    try:
        for spool, one in written:
            objects.link(spool, one.digest)
        for spool, one in written:
            objects.sync(spool, one.digest)
        yield written
    except BaseException:
        for spool, one in written:
            objects.abandon(spool, one.digest)
        raise
    for spool in spools:
        spool.discard()


def record_outcome(
    connection: sa.Connection, job: JobRow, filed: Sequence[Filed], outcome: Outcome, now: datetime
) -> None:
    """Add results with their instances and deliveries, verdicts and tags, within the caller's transaction.

    Results of earlier generations of the series are replaced by these, also when these are none.
    """
    _supersede_results(connection, job, now)
    for result, one in zip(outcome.results, filed, strict=True):
        add_instance(connection, one, now)
        result_id = connection.execute(
            sa.insert(results)
            .values(
                job_id=job.id,
                kind=result.kind,
                stack_number=result.stack_number,
                sop_instance_uid=result.sop_instance_uid,
                created_at=now,
            )
            .returning(results.c.id)
        ).scalar_one()
        for peer in outcome.peers_of(result):
            queue_delivery(connection, one, peer, now, result_id=result_id)
    for verdict in outcome.verdicts:
        connection.execute(
            sa.insert(verdicts).values(
                job_id=job.id,
                stack_number=verdict.stack_number,
                verdict=verdict.verdict,
                probability=verdict.probability,
                reasons=json.dumps(verdict.reasons, ensure_ascii=False),
                remark_codes=json.dumps(sorted(verdict.remark_codes)),
                report=json.dumps(dict(verdict.report), ensure_ascii=False),
                found_at=now,
            )
        )
    for name, value in outcome.tags.items():
        set_tag(
            connection,
            study_instance_uid=job.study_instance_uid,
            series_instance_uid=job.series_instance_uid,
            name=name,
            value=value,
            set_by=SET_BY_JOB,
            now=now,
        )


def result_rows(connection: sa.Connection, job_id: int) -> tuple[ResultRow, ...]:
    """Return the results of a job in the order in which it wrote them."""
    return _result_rows(connection, results.c.job_id == job_id)


def predecessor_rows(connection: sa.Connection, job: JobRow) -> tuple[ResultRow, ...]:
    """Results that those of ``job`` replace: of all earlier generations of its series, the earliest first.

    A peer may have got those of the first generation and none of the second.
    """
    return _result_rows(
        connection, jobs.c.series_instance_uid == job.series_instance_uid, jobs.c.generation < job.generation
    )


def _result_rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> tuple[ResultRow, ...]:
    columns = [
        results.c.id,
        results.c.job_id,
        results.c.kind,
        results.c.stack_number,
        jobs.c.series_instance_uid,
        jobs.c.generation,
        instances.c.sop_class_uid,
        instances.c.sop_instance_uid,
        instances.c.transfer_syntax_uid,
        instances.c.digest,
        results.c.created_at,
        instances.c.series_instance_uid,
        results.c.superseded_by_job_id,
    ]
    statement = (
        sa.select(*columns)
        .join_from(results, jobs, results.c.job_id == jobs.c.id)
        .join(instances, instances.c.sop_instance_uid == results.c.sop_instance_uid)
        .where(*conditions)
        .order_by(results.c.id)
    )
    return tuple(ResultRow(*row) for row in connection.execute(statement))


def _supersede_results(connection: sa.Connection, job: JobRow, now: datetime) -> None:
    """Mark results of earlier generations, and take their instances out of what queries find."""
    of_older = sa.select(jobs.c.id).where(
        jobs.c.series_instance_uid == job.series_instance_uid, jobs.c.generation < job.generation
    )
    replaced = connection.execute(
        sa.update(results)
        .where(results.c.job_id.in_(of_older), results.c.superseded_by_job_id.is_(None))
        .values(superseded_by_job_id=job.id)
        .returning(results.c.sop_instance_uid)
    ).scalars()
    for sop_instance_uid in replaced.all():
        hide_result(connection, sop_instance_uid, now)


def hide_result(connection: sa.Connection, sop_instance_uid: str, now: datetime) -> None:
    """Take the instance of a result out of what queries find; by its own UID it can still be retrieved."""
    _mark_result(connection, sop_instance_uid, instances.c.superseded_at.is_(None), superseded_at=now)


def show_result(connection: sa.Connection, sop_instance_uid: str) -> None:
    """Undo `hide_result`."""
    _mark_result(connection, sop_instance_uid, instances.c.superseded_at.is_not(None), superseded_at=None)


def _mark_result(
    connection: sa.Connection,
    sop_instance_uid: str,
    condition: sa.ColumnElement[bool],
    *,
    superseded_at: datetime | None,
) -> None:
    row = connection.execute(
        sa.update(instances)
        .where(instances.c.sop_instance_uid == sop_instance_uid, instances.c.origin == Origin.NODE.value, condition)
        .values(superseded_at=superseded_at)
        .returning(instances.c.series_instance_uid, instances.c.dataset_bytes)
    ).one_or_none()
    if row is None:
        return
    sign = 1 if superseded_at is None else -1
    connection.execute(
        sa.update(series)
        .where(series.c.series_instance_uid == row.series_instance_uid)
        .values(
            n_instances=series.c.n_instances + sign,
            n_dataset_bytes=series.c.n_dataset_bytes + sign * row.dataset_bytes,
        )
    )


def add_instance(connection: sa.Connection, filed: Filed, now: datetime) -> None:
    """Add the instance of a result, unless the index has it; raise `ResultConflictError` if its UID is taken."""
    header = filed.header
    stored = sa.select(instances.c.digest).where(instances.c.sop_instance_uid == header.sop_instance_uid)
    stored_digest = connection.execute(stored).scalar_one_or_none()
    if stored_digest == filed.digest:  # came back from a peer before, or was written by an earlier installation
        return
    if stored_digest is not None:
        raise ResultConflictError(header.sop_instance_uid, filed.digest, stored_digest)
    generation = _series_generation(connection, header, now)
    connection.execute(sa.insert(instances).values(instance_values(filed, Origin.NODE, generation)))
    connection.execute(
        sa.update(series)
        .where(series.c.series_instance_uid == header.series_instance_uid)
        .values(
            n_instances=series.c.n_instances + 1,
            n_dataset_bytes=series.c.n_dataset_bytes + filed.dataset_bytes,
            last_arrival_at=now,
        )
    )


def _series_generation(connection: sa.Connection, header: Header, now: datetime) -> int:
    own = sa.select(series.c.generation).where(series.c.series_instance_uid == header.series_instance_uid)
    generation = connection.execute(own).scalar_one_or_none()
    if generation is not None:
        return int(generation)
    its_study = sa.select(studies.c.study_instance_uid).where(studies.c.study_instance_uid == header.study_instance_uid)
    if connection.execute(its_study).first() is None:
        add_study(connection, header, now)
    add_series(connection, header, Origin.NODE, SeriesState.COMPLETE, now)
    return 1

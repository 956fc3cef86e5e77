"""Transitions of jobs inside a transaction; each changes the row and adds its event."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.store.index.rows import SeriesRow
from dicom_node.store.schema import deliveries, job_events, jobs, results
from dicom_node.store.states import TRANSITIONS, JobState, StudyState, check_transition
from dicom_node.store.work.rows import Closing, JobRow, Route

REOPENED = {
    "completed_at": None,
    "skip_reason": None,
    "forced_at": None,
    "waits_because": None,
    "complete_because": None,
    "is_doubted": None,
    "pipeline_digest": None,
}
"""Columns that are reset when a series starts over."""

STUDY_REOPENED = {"state": StudyState.OPEN.value, "announced_for": None}
"""Columns that are set when something about a study is not judged yet; see `notices`."""

ROUTE_COLUMNS = (jobs.c.rule_name, jobs.c.stacks, jobs.c.deliver_to)
_SUPERSEDED_FROM = [state.value for state, ways in TRANSITIONS.items() if JobState.SUPERSEDED in ways]
JOB_COLUMNS = [*(jobs.c[name] for name in JobRow.__dataclass_fields__ if name != "route"), *ROUTE_COLUMNS]


def job_row(row: sa.Row[tuple[Any, ...]]) -> JobRow:
    """Return a row of ``jobs``, selected as `JOB_COLUMNS`, as a value."""
    values = row._asdict()
    values["state"] = JobState(values["state"])
    rule_name, stacks, deliver_to = (values.pop(column.name) for column in ROUTE_COLUMNS)
    is_routed = None not in (rule_name, stacks, deliver_to)
    route = Route(rule_name, tuple(json.loads(stacks)), tuple(json.loads(deliver_to))) if is_routed else None
    return JobRow(**values, route=route)


def move_job(
    connection: sa.Connection,
    job: JobRow,
    wanted: JobState,
    event: str,
    now: datetime,
    *,
    detail: str = "",
    **changes: object,
) -> JobRow:
    """Move a job, read in this write transaction, to another state; raise if that transition is not allowed.

    A job that is not running has to be read ``FOR UPDATE``: claims do not wait for other writers (`Database.claim`).
    """
    check_transition("job", job.id, job.state, wanted)
    if wanted is not JobState.RUNNING:
        changes = {"owner": None, "lease_expires_at": None} | changes
    if wanted is not JobState.WAITING:
        changes = {"retry_at": None} | changes
    moved = connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job.id, jobs.c.state == job.state.value)
        .values(state=wanted.value, **changes)
        .returning(*JOB_COLUMNS)
    ).one()
    after = job_row(moved)
    connection.execute(
        sa.insert(job_events).values(
            job_id=job.id,
            event=event,
            from_state=job.state.value,
            to_state=wanted.value,
            attempt_number=max(job.attempt_number, after.attempt_number),
            owner=after.owner or job.owner,
            detail=detail,
            occurred_at=now,
        )
    )
    return after


def supersede_work(connection: sa.Connection, series_instance_uid: str, generation: int, now: datetime) -> None:
    """Supersede unfinished jobs and deliveries of generations of a series before ``generation``.

    Results that a peer already has stay there; those of the later generation say that they replace them.
    """
    supersede_jobs(connection, series_instance_uid, generation, now)
    of_older = (
        sa.select(results.c.id)
        .join_from(results, jobs, results.c.job_id == jobs.c.id)
        .where(jobs.c.series_instance_uid == series_instance_uid, jobs.c.generation < generation)
    )
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.result_id.in_(of_older), deliveries.c.state.in_(_SUPERSEDED_FROM))
        .values(state=JobState.SUPERSEDED.value, owner=None, lease_expires_at=None, retry_at=None, ended_at=now)
    )


def supersede_jobs(connection: sa.Connection, series_instance_uid: str, generation: int, now: datetime) -> None:
    """Supersede unfinished jobs of generations before ``generation``; a running worker loses its lease."""
    older = sa.select(*JOB_COLUMNS).where(
        jobs.c.series_instance_uid == series_instance_uid,
        jobs.c.generation < generation,
        jobs.c.state.in_(_SUPERSEDED_FROM),
    )
    for row in connection.execute(older.with_for_update()).all():  # a worker may claim one at this moment
        move_job(
            connection,
            job_row(row),
            JobState.SUPERSEDED,
            "superseded",
            now,
            detail=f"generation {generation}",
            ended_at=now,
        )


def queue_job(connection: sa.Connection, series_row: SeriesRow, closing: Closing, route: Route, now: datetime) -> None:
    """Queue the job of a generation; a job that already exists for this pipeline is left unchanged."""
    existing = sa.select(jobs.c.id).where(
        jobs.c.series_instance_uid == series_row.series_instance_uid,
        jobs.c.generation == series_row.generation,
        jobs.c.pipeline_digest == closing.pipeline_digest,
    )
    if connection.execute(existing).first() is not None:
        return
    job_id = connection.execute(
        sa.insert(jobs)
        .values(
            series_instance_uid=series_row.series_instance_uid,
            study_instance_uid=series_row.study_instance_uid,
            generation=series_row.generation,
            pipeline_digest=closing.pipeline_digest,
            rule_name=route.rule_name,
            stacks=json.dumps(route.stacks),
            deliver_to=json.dumps(route.deliver_to),
            state=JobState.QUEUED.value,
            attempt_number=0,
            queued_at=now,
        )
        .returning(jobs.c.id)
    ).scalar_one()
    connection.execute(
        sa.insert(job_events).values(
            job_id=job_id,
            event="queued",
            from_state=None,
            to_state=JobState.QUEUED.value,
            attempt_number=0,
            owner=None,
            detail=f"rule {route.rule_name}; {closing.because}",
            occurred_at=now,
        )
    )

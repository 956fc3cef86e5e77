"""Numbers that show how the node is doing, for monitoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import conflicts, deliveries, jobs, notices, series, studies, tags
from dicom_node.store.states import JobState

_UNFINISHED = [JobState.QUEUED.value, JobState.RUNNING.value, JobState.WAITING.value]


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts by state, read together.

    Attributes
    ----------
    deliveries, notices
        By name of the peer or target, then by state.
    verdicts
        Series by their verdict; series of several stacks count once, with the most severe.
    n_conflicts
        Unsettled conflicts.
    oldest_job_at, oldest_delivery_at
        When the oldest unfinished one was created; None if there is none.
    n_instances, n_dataset_bytes
        Of all series, results included.
    """

    studies: Mapping[str, int]
    series: Mapping[str, int]
    jobs: Mapping[str, int]
    deliveries: Mapping[str, Mapping[str, int]]
    notices: Mapping[str, Mapping[str, int]]
    verdicts: Mapping[str, int]
    n_conflicts: int
    oldest_job_at: datetime | None
    oldest_delivery_at: datetime | None
    n_instances: int
    n_dataset_bytes: int


def read_figures(database: Database) -> Figures:
    """Return the present numbers."""
    with database.read() as connection:
        totals = connection.execute(sa.select(sa.func.sum(series.c.n_instances), sa.func.sum(series.c.n_dataset_bytes)))
        n_instances, n_dataset_bytes = totals.one()
        return Figures(
            studies=_counts(connection, studies.c.state),
            series=_counts(connection, series.c.state),
            jobs=_counts(connection, jobs.c.state),
            deliveries=_counts_by_name(connection, deliveries.c.peer, deliveries.c.state),
            notices=_counts_by_name(connection, notices.c.target, notices.c.state),
            verdicts=_counts(connection, tags.c.value, tags.c.name == "verdict", tags.c.series_instance_uid != ""),
            n_conflicts=connection.execute(
                sa.select(sa.func.count()).select_from(conflicts).where(conflicts.c.settled_at.is_(None))
            ).scalar_one(),
            oldest_job_at=_oldest(connection, jobs.c.queued_at, jobs.c.state),
            oldest_delivery_at=_oldest(connection, deliveries.c.created_at, deliveries.c.state),
            n_instances=int(n_instances or 0),
            n_dataset_bytes=int(n_dataset_bytes or 0),
        )


def _counts(connection: sa.Connection, column: sa.Column[str], *conditions: sa.ColumnElement[bool]) -> dict[str, int]:
    statement = sa.select(column, sa.func.count()).where(*conditions).group_by(column)
    return {str(value): int(number) for value, number in connection.execute(statement)}


def _counts_by_name(
    connection: sa.Connection, name: sa.Column[str], state: sa.Column[str]
) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for who, value, number in connection.execute(sa.select(name, state, sa.func.count()).group_by(name, state)):
        found.setdefault(who, {})[value] = number
    return found


def _oldest(connection: sa.Connection, at: sa.Column[datetime], state: sa.Column[str]) -> datetime | None:
    statement = sa.select(at).where(state.in_(_UNFINISHED)).order_by(at).limit(1)
    found: datetime | None = connection.execute(statement).scalar_one_or_none()
    return found

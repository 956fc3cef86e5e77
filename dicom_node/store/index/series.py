"""Series and their instances: what has arrived, and which series no longer receive."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.index.rows import ConflictRow, InstanceRow, SeriesRow
from dicom_node.store.schema import conflicts, instances, series, studies
from dicom_node.store.states import ConflictChoice, Origin, SeriesState

_SERIES_COLUMNS = [series.c[name] for name in SeriesRow.__dataclass_fields__]
INSTANCE_COLUMNS = [instances.c[name] for name in InstanceRow.__dataclass_fields__]
_CONFLICT_COLUMNS = [conflicts.c[name] for name in ConflictRow.__dataclass_fields__]


class SeriesIndex:
    """Series and their instances."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def quiet(
        self, now: datetime, quiet_s: float, *, limit: int = 100, after: SeriesRow | None = None
    ) -> tuple[SeriesRow, ...]:
        """Return a page of ``receiving`` series that are forced or quiet for ``quiet_s`` seconds, the oldest first.

        Parameters
        ----------
        after
            The last series of the previous page.
        """
        order = (series.c.last_arrival_at, series.c.series_instance_uid)
        statement = (
            sa.select(*_SERIES_COLUMNS)
            .where(
                series.c.state == SeriesState.RECEIVING.value,
                sa.or_(
                    series.c.last_arrival_at <= now - timedelta(seconds=quiet_s),
                    series.c.forced_at.is_not(None),
                ),
            )
            .order_by(*order)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(
                sa.or_(
                    order[0] > after.last_arrival_at,
                    sa.and_(order[0] == after.last_arrival_at, order[1] > after.series_instance_uid),
                )
            )
        with self._database.read() as connection:
            return tuple(series_row_of(row) for row in connection.execute(statement))

    def force(self, series_instance_uid: str, now: datetime) -> bool:
        """Declare a series complete as it is; return False if it is not receiving."""
        force = (
            sa.update(series)
            .where(
                series.c.series_instance_uid == series_instance_uid,
                series.c.origin == Origin.RECEIVED.value,
                series.c.state == SeriesState.RECEIVING.value,
            )
            .values(forced_at=now)
        )
        with self._database.write() as connection:
            return connection.execute(force).rowcount == 1

    def count_as_arrived(self, now: datetime, because: str, *, beyond: datetime | None = None) -> int:
        """Restart the quiet period of receiving series, with the reason; return how many.

        Parameters
        ----------
        beyond
            Only those whose last instance arrived after this moment.
        """
        conditions = [series.c.state == SeriesState.RECEIVING.value]
        if beyond is not None:
            conditions.append(series.c.last_arrival_at > beyond)
        with self._database.read() as connection:  # most calls find nothing and need no write lock
            if connection.execute(sa.select(series.c.series_instance_uid).where(*conditions).limit(1)).first() is None:
                return 0
        restart = sa.update(series).where(*conditions).values(last_arrival_at=now, waits_because=because)
        with self._database.write() as connection:
            return connection.execute(restart).rowcount

    def note_wait(self, series_row: SeriesRow, because: str) -> bool:
        """Record for people why a quiet series waits; return False if that reason is already recorded."""
        if series_row.waits_because == because:
            return False
        note = (
            sa.update(series)
            .where(
                series.c.series_instance_uid == series_row.series_instance_uid,
                series.c.state == SeriesState.RECEIVING.value,
            )
            .values(waits_because=because)
        )
        with self._database.write() as connection:
            return connection.execute(note).rowcount == 1

    def get(self, series_instance_uid: str) -> SeriesRow:
        """Return one series, or raise `NotFoundError`."""
        statement = sa.select(*_SERIES_COLUMNS).where(series.c.series_instance_uid == series_instance_uid)
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            raise NotFoundError("series", series_instance_uid)
        return series_row_of(row)

    def list(
        self,
        *,
        state: SeriesState | None = None,
        study_instance_uid: str | None = None,
        is_received: bool = False,
        limit: int = 1000,
        offset: int = 0,
    ) -> tuple[SeriesRow, ...]:
        """Return series, the latest arrival first; with ``is_received`` only those that came from outside."""
        statement = sa.select(*_SERIES_COLUMNS).order_by(series.c.last_arrival_at.desc(), series.c.series_instance_uid)
        if state is not None:
            statement = statement.where(series.c.state == state.value)
        if study_instance_uid is not None:
            statement = statement.where(series.c.study_instance_uid == study_instance_uid)
        if is_received:
            statement = statement.where(series.c.origin == Origin.RECEIVED.value)
        with self._database.read() as connection:
            return tuple(series_row_of(row) for row in connection.execute(statement.limit(limit).offset(offset)))

    def counts(self) -> dict[SeriesState, int]:
        """Return the number of received series in each state; states without series are left out."""
        statement = (
            sa.select(series.c.state, sa.func.count())
            .where(series.c.origin == Origin.RECEIVED.value)
            .group_by(series.c.state)
        )
        with self._database.read() as connection:
            return {SeriesState(state): n for state, n in connection.execute(statement)}

    def instances(self, series_instance_uid: str, *, generation: int | None = None) -> tuple[InstanceRow, ...]:
        """Return the instances in order of arrival; with ``generation`` only those that belong to it."""
        statement = (
            sa.select(*INSTANCE_COLUMNS)
            .where(instances.c.series_instance_uid == series_instance_uid)
            .order_by(instances.c.id)
        )
        if generation is not None:
            statement = statement.where(instances.c.generation <= generation)
        with self._database.read() as connection:
            return tuple(instance_row(row) for row in connection.execute(statement))

    def outdated(self, pipeline_digest: str) -> tuple[SeriesRow, ...]:
        """Return series that were closed for another pipeline, the oldest first, skipped ones included."""
        statement = (
            sa.select(*_SERIES_COLUMNS)
            .where(
                series.c.origin == Origin.RECEIVED.value,
                series.c.state.in_((SeriesState.COMPLETE.value, SeriesState.SKIPPED.value)),
                sa.or_(series.c.pipeline_digest.is_(None), series.c.pipeline_digest != pipeline_digest),
            )
            .order_by(series.c.first_arrival_at, series.c.series_instance_uid)
        )
        with self._database.read() as connection:
            return tuple(series_row_of(row) for row in connection.execute(statement))

    def association_ids(self, series_instance_uid: str) -> tuple[str, ...]:
        """Return the associations over which instances of the series arrived."""
        statement = (
            sa.select(instances.c.association_id)
            .where(instances.c.series_instance_uid == series_instance_uid)
            .distinct()
            .order_by(instances.c.association_id)
        )
        with self._database.read() as connection:
            return tuple(connection.execute(statement).scalars())

    def instance_attributes(self, series_instance_uid: str) -> tuple[dict[str, Any], ...]:
        """Return DICOM JSON attributes of the instances, those of series and study included, in order of arrival."""
        statement = (
            sa.select(instances.c.attributes, series.c.attributes, studies.c.attributes)
            .join_from(instances, series, instances.c.series_instance_uid == series.c.series_instance_uid)
            .join(studies, series.c.study_instance_uid == studies.c.study_instance_uid)
            .where(instances.c.series_instance_uid == series_instance_uid)
            .order_by(instances.c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return tuple(
            json.loads(study) | json.loads(one_series) | json.loads(instance) for instance, one_series, study in rows
        )

    def conflicts(self, *, limit: int = 100) -> tuple[ConflictRow, ...]:
        """Return the conflicts: other bytes that arrived under the UID of an instance; the latest first."""
        statement = sa.select(*_CONFLICT_COLUMNS).order_by(conflicts.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return tuple(map(conflict_row, connection.execute(statement)))

    def n_conflicts(self) -> int:
        """Return the number of conflicts that nobody has settled."""
        unsettled = sa.select(sa.func.count()).select_from(conflicts).where(conflicts.c.settled_at.is_(None))
        with self._database.read() as connection:
            return connection.execute(unsettled).scalar_one()


def find_instances(
    database: Database,
    *,
    study_instance_uid: str | None = None,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
) -> tuple[InstanceRow, ...]:
    """Return the instances that match all of the given UIDs, ordered by series and instance number."""
    if study_instance_uid is None and series_instance_uid is None and sop_instance_uid is None:
        raise ValueError("at least one UID is required")
    statement = sa.select(*INSTANCE_COLUMNS).order_by(
        instances.c.series_instance_uid, instances.c.instance_number, instances.c.id
    )
    if study_instance_uid is not None:
        statement = statement.where(instances.c.study_instance_uid == study_instance_uid)
    if series_instance_uid is not None:
        statement = statement.where(instances.c.series_instance_uid == series_instance_uid)
    if sop_instance_uid is not None:
        statement = statement.where(instances.c.sop_instance_uid == sop_instance_uid)
    else:
        statement = statement.where(instances.c.superseded_at.is_(None))
    with database.read() as connection:
        return tuple(instance_row(row) for row in connection.execute(statement))


def conflict_row(row: sa.Row[tuple[Any, ...]]) -> ConflictRow:
    """Return a row of ``conflicts`` as a value."""
    values = row._asdict()
    values["choice"] = None if values["choice"] is None else ConflictChoice(values["choice"])
    names = values["differences"]
    values["differences"] = None if names is None else tuple(json.loads(names))
    return ConflictRow(**values)


def instance_row(row: sa.Row[tuple[Any, ...]]) -> InstanceRow:
    """Return a row of ``instances`` as a value."""
    values = {name: getattr(row, name) for name in InstanceRow.__dataclass_fields__}
    values["origin"] = Origin(values["origin"])
    return InstanceRow(**values)


def series_row_of(row: sa.Row[tuple[Any, ...]]) -> SeriesRow:
    """Return a row of ``series`` as a value."""
    values = row._asdict()
    values["origin"] = Origin(values["origin"])
    values["state"] = SeriesState(values["state"])
    return SeriesRow(**values)

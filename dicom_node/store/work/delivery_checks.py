"""Whether peers list as many instances of a series as they accepted."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import deliveries, delivery_checks
from dicom_node.store.states import JobState
from dicom_node.store.work.delivery_rows import DeliveryCheckRow

SETTLE_S = 20.0  # after the last instance that a peer accepted: some index what they got a moment later
_COLUMNS = [delivery_checks.c[name] for name in DeliveryCheckRow.__dataclass_fields__]


class DeliveryChecks:
    """Counts of instances at peers, for each series that was delivered to them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, peer: str, now: datetime, *, limit: int = 100) -> tuple[DeliveryCheckRow, ...]:
        """Return the series to be counted at a peer now, the longest due first."""
        statement = (
            sa.select(*_COLUMNS)
            .where(delivery_checks.c.peer == peer, delivery_checks.c.due_at <= now)
            .order_by(delivery_checks.c.due_at, delivery_checks.c.series_instance_uid)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(DeliveryCheckRow(*row) for row in connection.execute(statement))

    def n_accepted(self, peer: str, series_instance_uid: str) -> int:
        """Return how many instances of a series a peer has accepted, each counted once."""
        statement = sa.select(sa.func.count(sa.distinct(deliveries.c.sop_instance_uid))).where(
            deliveries.c.peer == peer,
            deliveries.c.series_instance_uid == series_instance_uid,
            deliveries.c.state == JobState.SUCCEEDED.value,
        )
        with self._database.read() as connection:
            return int(connection.execute(statement).scalar_one())

    def note(
        self,
        check: DeliveryCheckRow,
        *,
        n_sent: int,
        n_found: int | None,
        reason: str,
        now: datetime,
        again_at: datetime | None,
    ) -> None:
        """Record an answer of a peer; nothing is recorded if it has accepted more since the question."""
        note = (
            sa.update(delivery_checks)
            .where(
                delivery_checks.c.peer == check.peer,
                delivery_checks.c.series_instance_uid == check.series_instance_uid,
                delivery_checks.c.due_at == check.due_at,
            )
            .values(
                n_sent=n_sent,
                n_found=n_found,
                reason=reason,
                n_checks=delivery_checks.c.n_checks + 1,
                checked_at=now,
                due_at=again_at,
            )
        )
        with self._database.write() as connection:
            connection.execute(note)

    def list(
        self, *, peer: str | None = None, only_short: bool = False, limit: int = 100
    ) -> tuple[DeliveryCheckRow, ...]:
        """Return checks, the latest first; with ``only_short`` those of which the peer has less than it accepted."""
        statement = sa.select(*_COLUMNS).order_by(delivery_checks.c.checked_at.desc()).limit(limit)
        if peer is not None:
            statement = statement.where(delivery_checks.c.peer == peer)
        if only_short:
            statement = statement.where(delivery_checks.c.n_found < delivery_checks.c.n_sent)
        with self._database.read() as connection:
            return tuple(DeliveryCheckRow(*row) for row in connection.execute(statement))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return for each peer the number of series that are complete there, short, or not counted."""
        kind = sa.case(
            (delivery_checks.c.n_found.is_(None), "not counted"),
            (delivery_checks.c.n_found < delivery_checks.c.n_sent, "short"),
            else_="complete",
        )
        series = sa.select(delivery_checks.c.peer, kind.label("kind")).subquery()  # PostgreSQL groups by columns only
        statement = (
            sa.select(series.c.peer, series.c.kind, sa.func.count())
            .group_by(series.c.peer, series.c.kind)
            .order_by(series.c.peer, series.c.kind)
        )
        found: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            for peer, words, number in connection.execute(statement):
                found.setdefault(peer, {})[words] = number
        return found


def await_check(
    connection: sa.Connection, *, peer: str, study_instance_uid: str, series_instance_uid: str, now: datetime
) -> None:
    """Have a series counted at a peer once it is settled there, within the caller's write transaction."""
    key = {"peer": peer, "series_instance_uid": series_instance_uid}
    values = {"due_at": now + timedelta(seconds=SETTLE_S), "n_checks": 0}
    if connection.execute(sa.update(delivery_checks).filter_by(**key).values(**values)).rowcount == 0:
        connection.execute(
            sa.insert(delivery_checks).values(**key, **values, study_instance_uid=study_instance_uid, reason="")
        )

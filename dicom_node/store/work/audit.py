"""The audit trail: who did what, when; rows are only ever added."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import audit
from dicom_node.store.work.rows import AuditRow

_COLUMNS = [audit.c[name] for name in AuditRow.__dataclass_fields__]


class Audit:
    """The audit trail: who did what, when; rows are only ever added."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self, action: str, *, actor: str, subject: str, now: datetime, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Add an entry."""
        with self._database.write() as connection:
            add_audit(connection, action, actor=actor, subject=subject, now=now, detail=detail)

    def of(self, subject: str, *, action: str) -> tuple[AuditRow, ...]:
        """Return the entries of an action on a subject, the latest first."""
        statement = sa.select(*_COLUMNS).filter_by(subject=subject, action=action).order_by(audit.c.id.desc())
        return self._rows(statement)

    def about(self, subjects: Sequence[str], *, limit: int = 100) -> tuple[AuditRow, ...]:
        """Return the entries on any of some subjects, the latest first."""
        statement = sa.select(*_COLUMNS).where(audit.c.subject.in_(subjects)).order_by(audit.c.id.desc()).limit(limit)
        return self._rows(statement)

    def list(
        self,
        *,
        subjects: Sequence[str] = (),
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[AuditRow, ...]:
        """Return entries, the latest first."""
        statement = sa.select(*_COLUMNS).order_by(audit.c.id.desc()).limit(limit).offset(offset)
        if subjects:
            statement = statement.where(audit.c.subject.in_(subjects))
        if actor is not None:
            statement = statement.where(audit.c.actor == actor)
        if action is not None:
            statement = statement.where(audit.c.action == action)
        if since is not None:
            statement = statement.where(audit.c.occurred_at >= since)
        return self._rows(statement)

    def _rows(self, statement: sa.Select[Any]) -> tuple[AuditRow, ...]:
        with self._database.read() as connection:
            return tuple(audit_row(row) for row in connection.execute(statement))


def audit_row(row: Any) -> AuditRow:  # noqa: ANN401 - a row of SQLAlchemy
    """Return an entry from a row that has all of its columns."""
    values = {name: getattr(row, name) for name in AuditRow.__dataclass_fields__}
    return AuditRow(**values | {"detail": json.loads(values["detail"])})


def entry_values(
    action: str, *, actor: str, subject: str, now: datetime, detail: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the values of a new row."""
    texts = {"actor": actor, "subject": subject, "detail": json.dumps(dict(detail or {}), ensure_ascii=False)}
    return {"action": action, "occurred_at": now, **{name: _storable(text) for name, text in texts.items()}}


def _storable(text: str) -> str:
    """Return a text that every database takes; one that is not taken would keep entries of others out, too."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def add_audit(
    connection: sa.Connection,
    action: str,
    *,
    actor: str,
    subject: str,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry within the caller's write transaction."""
    values = entry_values(action, actor=actor, subject=subject, now=now, detail=detail)
    connection.execute(sa.insert(audit).values(**values))

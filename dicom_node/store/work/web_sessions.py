"""Sessions of people who signed in to the page."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import access_tokens, web_sessions
from dicom_node.store.work.access_rows import WebSessionRow
from dicom_node.store.work.audit import add_audit

_COLUMNS = [web_sessions.c[name] for name in WebSessionRow.__dataclass_fields__]


class WebSessions:
    """Sessions; the values of their cookies are not here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, row: WebSessionRow, *, address: str) -> None:
        """Add a session, and delete those that have expired."""
        values = {name: getattr(row, name) for name in WebSessionRow.__dataclass_fields__}
        with self._database.write() as connection:
            connection.execute(sa.delete(web_sessions).where(web_sessions.c.expires_at <= row.began_at))
            connection.execute(sa.insert(web_sessions).values(**values))
            subject = row.token_id or "oidc"
            detail = {"role": row.role, "address": address}
            add_audit(connection, "signed-in", actor=row.person, subject=subject, now=row.began_at, detail=detail)

    def find(self, secret_digest: str, now: datetime) -> WebSessionRow | None:
        """Return a session; None if there is none, if it has expired, or if its token no longer counts."""
        of_token = sa.or_(
            web_sessions.c.token_id.is_(None),
            sa.and_(access_tokens.c.revoked_at.is_(None), access_tokens.c.expires_at > now),
        )
        statement = (
            sa.select(*_COLUMNS)
            .select_from(web_sessions.outerjoin(access_tokens))
            .where(web_sessions.c.secret_digest == secret_digest, web_sessions.c.expires_at > now, of_token)
        )
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        return None if row is None else WebSessionRow(**row._asdict())

    def end(self, secret_digest: str, *, now: datetime) -> None:
        """End a session, if it is there."""
        with self._database.write() as connection:
            ended = sa.delete(web_sessions).where(web_sessions.c.secret_digest == secret_digest)
            row = connection.execute(ended.returning(web_sessions.c.person, web_sessions.c.token_id)).one_or_none()
            if row is not None:
                add_audit(connection, "signed-out", actor=row.person, subject=row.token_id or "oidc", now=now)

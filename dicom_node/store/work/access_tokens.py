"""Access tokens: created, used and revoked, each with an entry in the audit trail."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.schema import access_tokens, web_sessions
from dicom_node.store.work.access_rows import AccessTokenRow
from dicom_node.store.work.audit import add_audit

_COLUMNS = [access_tokens.c[name] for name in AccessTokenRow.__dataclass_fields__]


class AccessTokens:
    """Access tokens; their secrets are not here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: AccessTokenRow) -> None:
        """Add a token."""
        values = {name: getattr(row, name) for name in AccessTokenRow.__dataclass_fields__}
        with self._database.write() as connection:
            connection.execute(sa.insert(access_tokens).values(**values))
            detail = {"person": row.person, "role": row.role, "expires_at": row.expires_at.isoformat()}
            add_audit(
                connection, "token-created", actor=row.created_by, subject=row.id, now=row.created_at, detail=detail
            )

    def find(self, token_id: str) -> AccessTokenRow | None:
        """Return a token, expired and revoked ones too; None if there is none."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(*_COLUMNS).where(access_tokens.c.id == token_id)).one_or_none()
        return None if row is None else AccessTokenRow(**row._asdict())

    def list(self) -> tuple[AccessTokenRow, ...]:
        """Return all tokens, the newest first."""
        statement = sa.select(*_COLUMNS).order_by(access_tokens.c.created_at.desc(), access_tokens.c.id)
        with self._database.read() as connection:
            return tuple(AccessTokenRow(**row._asdict()) for row in connection.execute(statement))

    def revoke(self, token_id: str, *, by: str, now: datetime) -> AccessTokenRow:
        """Revoke a token and end the sessions that began with it; one that is revoked stays as it is.

        Raises
        ------
        NotFoundError
            There is no such token.
        """
        with self._database.write() as connection:
            known = sa.and_(access_tokens.c.id == token_id, access_tokens.c.revoked_at.is_(None))
            if connection.execute(sa.update(access_tokens).where(known).values(revoked_at=now)).rowcount:
                add_audit(connection, "token-revoked", actor=by, subject=token_id, now=now)
            connection.execute(sa.delete(web_sessions).where(web_sessions.c.token_id == token_id))
            row = connection.execute(sa.select(*_COLUMNS).where(access_tokens.c.id == token_id)).one_or_none()
        if row is None:
            raise NotFoundError("token", token_id)
        return AccessTokenRow(**row._asdict())

    def used(self, token_id: str, *, person: str, address: str, now: datetime) -> None:
        """Record that a token was used from an address."""
        with self._database.write() as connection:
            used = sa.update(access_tokens).where(access_tokens.c.id == token_id).values(last_used_at=now)
            connection.execute(used)
            add_audit(connection, "token-used", actor=person, subject=token_id, now=now, detail={"address": address})

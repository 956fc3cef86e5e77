"""Access tokens and sessions as values; all datetimes are aware UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AccessTokenRow:
    """A token without its secret.

    Attributes
    ----------
    id
        Its public part.
    secret_digest
        SHA-256 of its secret part, hexadecimal.
    last_used_at
        To the hour; None if it was never used.
    """

    id: str
    person: str
    role: str
    secret_digest: str
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None

    def ended_at(self, now: datetime) -> datetime | None:
        """Return since when it counts no more; None if it counts."""
        if self.revoked_at is not None:
            return self.revoked_at
        return self.expires_at if self.expires_at <= now else None


@dataclass(frozen=True, slots=True)
class WebSessionRow:
    """A session of a person who signed in to the page."""

    secret_digest: str
    person: str
    role: str
    token_id: str | None
    began_at: datetime
    expires_at: datetime

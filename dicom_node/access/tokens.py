"""Make tokens for people and programs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from dicom_node.access.errors import TokenRefusedError
from dicom_node.access.roles import Role
from dicom_node.access.secrets_at_rest import TokenText, digest_of
from dicom_node.store import AccessTokenRow, Store

MAX_NAME: Final = 100
MAX_DAYS: Final = 3650
DEFAULT_DAYS: Final = 90


def create_token(
    store: Store, person: str, role: Role, *, days: float, created_by: str, now: datetime
) -> tuple[str, AccessTokenRow]:
    """Create a token; return its text, which is kept nowhere, and its row.

    Parameters
    ----------
    person
        The person or the program that it is for; the audit trail has this name.

    Raises
    ------
    TokenRefusedError
        The name is empty or too long, or the number of days is not allowed.
    """
    person = person.strip()
    if not 0 < len(person) <= MAX_NAME or not person.isprintable():
        raise TokenRefusedError("the name", person, f"1 to {MAX_NAME} characters")
    if not 0 < days <= MAX_DAYS:
        raise TokenRefusedError("the number of days", f"{days:g}", f"more than 0, at most {MAX_DAYS}")
    text = TokenText.new()
    row = AccessTokenRow(
        id=text.id,
        person=person,
        role=role.value,
        secret_digest=digest_of(text.secret),
        created_at=now,
        created_by=created_by,
        expires_at=now + timedelta(days=days),
        revoked_at=None,
        last_used_at=None,
    )
    store.access_tokens.add(row)
    return str(text), row

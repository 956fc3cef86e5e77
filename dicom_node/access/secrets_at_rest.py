"""Make random secrets; the store keeps only their digests.

A secret has 256 random bits, so that a plain SHA-256 is enough at rest: there is nothing to guess (unlike a password,
which needs a slow hash).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "dnode"  # so that scanners for leaked secrets can find them
_ID_CHARACTERS: Final = 12
_SECRET_BYTES: Final = 32
_SECRET_CHARACTERS: Final = 64


def new_secret() -> str:
    """Return 256 random bits in hexadecimal."""
    return secrets.token_hex(_SECRET_BYTES)


def digest_of(secret: str) -> str:
    """Return the SHA-256 of a secret in hexadecimal."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def is_secret_of(secret: str, digest: str) -> bool:
    """Return whether a secret has a digest, in a time that does not depend on where they differ."""
    return hmac.compare_digest(digest_of(secret), digest)


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token as its holder has it: ``dnode_ID_SECRET``."""

    id: str
    secret: str

    @classmethod
    def new(cls) -> TokenText:
        """Return a new token."""
        return cls(secrets.token_hex(_ID_CHARACTERS // 2), new_secret())

    @classmethod
    def parse(cls, text: str) -> TokenText | None:
        """Return a token from its text; None if that is none."""
        prefix, _, rest = text.partition("_")
        token_id, _, secret = rest.partition("_")
        if prefix != PREFIX or len(token_id) != _ID_CHARACTERS or len(secret) != _SECRET_CHARACTERS:
            return None
        return cls(token_id, secret) if text.isascii() and (token_id + secret).isalnum() else None

    def __str__(self) -> str:
        return f"{PREFIX}_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"TokenText({self.id!r}, ...)"

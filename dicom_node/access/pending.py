"""What a browser keeps between leaving for the OpenID Connect provider and coming back."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pending:
    """What a browser keeps between leaving for the provider and coming back.

    Attributes
    ----------
    state, nonce
        Come back with the answer, and in the token.
    verifier
        Shows the provider that the one who fetches the token is the one who asked for it.
    """

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Pending:
        """Return new random values."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))

    @classmethod
    def parse(cls, text: str) -> Pending | None:
        """Return what `str` made; None if it is something else."""
        parts = text.split(".")
        return cls(*parts) if len(parts) == 3 and all(len(part) >= 40 for part in parts) else None

    def __str__(self) -> str:
        return f"{self.state}.{self.nonce}.{self.verifier}"

    @property
    def challenge(self) -> str:
        """Digest of the verifier (RFC 7636 4.2)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

"""Find out who sends a request: by a token in a header, or by the session of somebody who signed in with one."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from dicom_node.access.callers import Caller
from dicom_node.access.errors import NotSignedInError, TooManyFailuresError, TooManyRequestsError
from dicom_node.access.pace import Pace
from dicom_node.access.refusals import Refusals
from dicom_node.access.roles import Role
from dicom_node.access.secrets_at_rest import PREFIX, TokenText, digest_of, is_secret_of, new_secret
from dicom_node.access.seldom import Failures, Seldom
from dicom_node.store import Store, WebSessionRow

if TYPE_CHECKING:
    from dicom_node.access.oidc import OidcProvider

UNKNOWN: Final = "unknown"  # who sends a wrong token
USE_PERIOD_S: Final = 3600.0  # between two records that a token is used from an address
MAX_SUBJECT: Final = 200  # characters
_NOBODY: Final = digest_of("")


class Identifier:
    """Knows the callers of one web server.

    Parameters
    ----------
    provider
        Of OpenID Connect; if it is None, only tokens of this node count.
    session_hours
        How long a session lasts; it never outlives its token.
    max_requests_per_minute
        Of each caller.
    """

    def __init__(
        self,
        store: Store,
        *,
        provider: OidcProvider | None = None,
        session_hours: float = 12.0,
        max_requests_per_minute: int = 12_000,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self.provider = provider
        self._session = timedelta(hours=session_hours)
        self._clock = clock
        self._failures, self._pace = Failures(), Pace(max_requests_per_minute)
        self._uses, self._reads = Seldom(USE_PERIOD_S), Seldom(USE_PERIOD_S)
        self.refusals = Refusals(store, clock)

    def by_token(self, text: str, address: str) -> Caller:
        """Return whose token it is.

        Raises
        ------
        NotSignedInError
            It is no token of this node, or expired or revoked.
        TooManyFailuresError
            Too many wrong ones came from this address.
        """
        self.check_failures(address)
        if self.provider is not None and not text.startswith(f"{PREFIX}_"):
            return self._by_provider(self.provider, text, address)
        token = TokenText.parse(text)
        row = None if token is None else self._store.access_tokens.find(token.id)
        # Compared in any case, so that the time does not say whether there is such a token.
        is_right = is_secret_of("" if token is None else token.secret, _NOBODY if row is None else row.secret_digest)
        if row is None or not is_right:
            self.has_failed(address, "wrong token")
            raise NotSignedInError("this is no token of this node", has_token=True)
        now = self._clock()
        if row.ended_at(now) is not None:
            finding = "revoked" if row.revoked_at is not None else "expired"
            self._failed(row.person, address, {"reason": f"token {finding}", "token": row.id})
            raise NotSignedInError(f"this token is {finding}", has_token=True)
        if self._uses.count((row.id, address), time.monotonic()):
            self._store.access_tokens.used(row.id, person=row.person, address=address, now=now)
        return Caller(row.person, Role(row.role), row.id)

    def _by_provider(self, provider: OidcProvider, text: str, address: str) -> Caller:
        try:
            caller = provider.by_token(text)
        except NotSignedInError as error:
            self.has_failed(address, str(error.args[0]))
            raise
        if self._uses.count((caller.name, address), time.monotonic()):
            detail = {"address": address, "role": caller.role.value}
            self._store.audit_buffer.note(
                "token-used", actor=caller.name, subject="oidc", now=self._clock(), detail=detail
            )
        return caller

    def check_failures(self, address: str) -> None:
        """Raise `TooManyFailuresError` if too many have failed to sign in from an address."""
        wait_s = self._failures.wait_s(address, time.monotonic())
        if wait_s:
            raise TooManyFailuresError(wait_s)

    def has_failed(self, address: str, reason: str) -> None:
        """Count and record that somebody unknown has failed to sign in from an address."""
        self._failures.add(address, time.monotonic())
        self._failed(UNKNOWN, address, {"reason": reason})

    def check_pace(self, caller: Caller, address: str) -> None:
        """Raise `TooManyRequestsError` if a caller sends more requests than it may."""
        wait_s = self._pace.wait_s(caller.name, time.monotonic())
        if wait_s:
            error = TooManyRequestsError(caller.name, self._pace.per_minute, wait_s)
            self.refusals.note(error.code, actor=caller.name, subject=address, source=caller.name, detail={})
            raise error

    def by_session(self, secret: str) -> Caller | None:
        """Return whose session it is; None if it is none, or over."""
        row = self._store.web_sessions.find(digest_of(secret), self._clock())
        return None if row is None else Caller(row.person, Role(row.role), row.token_id)

    def sign_in(self, text: str, address: str) -> tuple[str, Caller]:
        """Begin a session with a token; return the secret of its cookie and who it is.

        Raises
        ------
        NotSignedInError, TooManyFailuresError
            As of `by_token`.
        """
        caller = self.by_token(text.strip(), address)
        return self.begin_session(caller, address), caller

    def begin_session(self, caller: Caller, address: str) -> str:
        """Begin a session of somebody who has shown who they are; return the secret of its cookie."""
        secret, now = new_secret(), self._clock()
        row = WebSessionRow(
            secret_digest=digest_of(secret),
            person=caller.name,
            role=caller.role.value,
            token_id=caller.token_id,
            began_at=now,
            expires_at=now + self._session,
        )
        self._store.web_sessions.begin(row, address=address)
        return secret

    def sign_out(self, secret: str) -> None:
        """End a session."""
        self._store.web_sessions.end(digest_of(secret), now=self._clock())

    def has_read(self, caller: Caller, subject: str | None, address: str) -> None:
        """Record that somebody has read of a study or a series, or has searched: once an hour for each of these."""
        due = self._reads.count((caller.name, subject, address), time.monotonic())
        if due is None:
            return
        detail = {"address": address, **due.detail}
        action, about = ("searched", address) if subject is None else ("read", subject[:MAX_SUBJECT])
        self._store.audit_buffer.note(action, actor=caller.name, subject=about, now=self._clock(), detail=detail)

    def _failed(self, actor: str, address: str, detail: dict[str, Any]) -> None:
        self.refusals.note("sign-in-failed", actor=actor, subject=address, source=address, detail=detail)

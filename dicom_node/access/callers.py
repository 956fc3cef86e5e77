"""Who sent a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.types import Scope

from dicom_node.access.roles import Right, Role

_KEY: Final = "caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """A person or a program that has shown who it is.

    Attributes
    ----------
    name
        As the audit trail has it.
    token_id
        The token that was used; None if there was none.
    """

    name: str
    role: Role
    token_id: str | None = None

    @property
    def may_store(self) -> bool:
        """Whether the page offers them to upload."""
        return self.role.has(Right.STORE)

    @property
    def may_decide(self) -> bool:
        """Whether the page offers them to decide on studies."""
        return self.role.has(Right.DECIDE)


def caller_of(request: Request) -> Caller | None:
    """Return who sent a request; None where nobody has to sign in."""
    found = request.scope.get("state", {}).get(_KEY)
    return found if isinstance(found, Caller) else None


def with_caller(scope: Scope, caller: Caller) -> Scope:
    """Return the scope of a request by somebody who is known."""
    return {**scope, "state": {**scope.get("state", {}), _KEY: caller}}

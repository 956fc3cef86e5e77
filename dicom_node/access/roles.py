"""Roles, and the rights that each has."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Right(StrEnum):
    """What a route needs; the value says it to people."""

    ANYONE = "nothing: anybody may"
    METRICS = "read metrics"
    STORE = "store instances"
    READ = "read images and findings"
    DECIDE = "decide on studies"
    SEND = "send studies elsewhere"
    MANAGE = "delete results"


class Role(StrEnum):
    """What a token or a person is for. Each of the last four has all rights of the one before."""

    MONITOR = "monitor"  # a program that reads metrics
    SENDER = "sender"  # a program that stores instances
    VIEWER = "viewer"
    REVIEWER = "reviewer"
    EXPORTER = "exporter"
    ADMIN = "admin"

    def has(self, right: Right) -> bool:
        """Return whether this role has a right."""
        return right in RIGHTS[self]


_VIEWER: Final = frozenset({Right.ANYONE, Right.METRICS, Right.READ})
_REVIEWER: Final = _VIEWER | {Right.STORE, Right.DECIDE}
_EXPORTER: Final = _REVIEWER | {Right.SEND}
RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    Role.MONITOR: frozenset({Right.ANYONE, Right.METRICS}),
    Role.SENDER: frozenset({Right.ANYONE, Right.STORE}),
    Role.VIEWER: _VIEWER,
    Role.REVIEWER: _REVIEWER,
    Role.EXPORTER: _EXPORTER,
    Role.ADMIN: _EXPORTER | {Right.MANAGE},
}


def roles_with(right: Right) -> tuple[Role, ...]:
    """Return the roles that have a right."""
    return tuple(role for role in Role if role.has(right))

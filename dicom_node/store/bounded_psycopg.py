"""Connections of psycopg that do not wait for ever for a server that says nothing.

psycopg limits the time in which a connection is made, and leaves what follows to TCP: a server whose machine is frozen,
or behind a firewall that drops packets, would hold a thread for minutes or hours. Here each answer has a limit.
"""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar, Final, TypeVar

import psycopg
from psycopg.abc import PQGen

MIN_CONNECT_TIMEOUT_S: Final = 2  # the least that libpq takes for a limit
_INTERVAL_S: Final = 0.1  # between two looks at whether the process is interrupted
RV = TypeVar("RV")


class _BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed once an answer takes longer than `answer_timeout_s`."""

    answer_timeout_s: ClassVar[float]

    def wait(self, gen: PQGen[RV], interval: float = _INTERVAL_S, timeout: float | None = None) -> RV:
        """Let one exchange with the server end, within the limit."""
        limit_s = self.answer_timeout_s if timeout is None else timeout
        end_at = time.monotonic() + limit_s
        try:
            return super().wait(gen, interval, limit_s)
        except psycopg.Error as error:
            if time.monotonic() < end_at:
                raise
            self.pgconn.finish()  # its answer may still come, and would be taken for that of another question
            raise psycopg.OperationalError(f"timed out: no answer within {limit_s:g} s") from error


def connect(*arguments: Any, answer_timeout_s: float, **options: Any) -> psycopg.Connection[Any]:  # noqa: ANN401
    """Connect like `psycopg.connect`, with a limit for this and for each answer."""

    class Connection(_BoundedConnection):
        """With the limit of its engine."""

    Connection.answer_timeout_s = answer_timeout_s
    limit_s = max(MIN_CONNECT_TIMEOUT_S, math.floor(answer_timeout_s))
    return Connection.connect(*arguments, **{"connect_timeout": limit_s, **options})

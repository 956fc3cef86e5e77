"""One time for all hosts that share an index: that of its database.

Leases, waits and the quiet time of a series compare moments that different processes wrote. On one machine they have
one clock. On several hosts their clocks differ, by minutes where nobody minds them, and a host whose clock is ahead
would take away the jobs of all others. So with PostgreSQL the server's clock counts: whenever a connection is tried
before its use, it is asked for its time, and between two answers the local monotonic clock goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

DRIFT = 2e-4  # by which two clocks may run apart, far more than any computer's
EXACT_S = 0.5  # an error that no lease and no quiet time notices


@dataclass(frozen=True, slots=True)
class _Reading:
    """The server's time at a moment of the local monotonic clock; wrong by ``error_s`` at most, half the round trip."""

    now: datetime
    monotonic_s: float
    error_s: float

    def at(self, monotonic_s: float) -> datetime:
        return self.now + timedelta(seconds=monotonic_s - self.monotonic_s)

    def error_at(self, monotonic_s: float) -> float:
        return self.error_s + DRIFT * (monotonic_s - self.monotonic_s)


class StoreClock:
    """The time, as the store wants it: of the database's server where there is one, else of this machine.

    It never waits and never fails: without an answer it goes on from the last one. The moments that it gives may be a
    few milliseconds apart between two hosts, half the time of a question and its answer.
    """

    def __init__(
        self, *, wall: Callable[[], datetime] | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.monotonic = monotonic
        self._wall = wall or (lambda: datetime.now(UTC))
        self._reading: _Reading | None = None

    def __call__(self) -> datetime:
        """Return the time, in UTC."""
        reading = self._reading
        return self._wall() if reading is None else reading.at(self.monotonic())

    @property
    def is_exact(self) -> bool:
        """Whether the last answer came fast enough; one that was half a minute on its way is wrong by a quarter."""
        return self._reading is not None and self._reading.error_at(self.monotonic()) <= EXACT_S

    def note(self, now: datetime, *, asked_s: float, answered_s: float) -> None:
        """Take the server's answer, asked and got at two moments of the monotonic clock.

        A more exact one from before stays, unless the two cannot both be true: then the server's clock was set.
        """
        new = _Reading(now.astimezone(UTC), (asked_s + answered_s) / 2, (answered_s - asked_s) / 2)
        old = self._reading
        if old is not None:
            error_s = old.error_at(new.monotonic_s)
            differs_s = abs((old.at(new.monotonic_s) - new.now).total_seconds())
            if error_s < new.error_s and differs_s <= error_s + new.error_s:
                return
        self._reading = new

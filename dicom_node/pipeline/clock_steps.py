"""Detect that the system's clock was set, forward or back, while a process runs.

Times in the store are wall-clock times: after a step back stored times are in the future, and after a step forward
they look older than they are. A monotonic clock shows that it happened, and by how much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

MIN_STEP_S = 2.0  # smaller steps come from NTP adjustments, or from a delay between two readings


CLOCK_WAS_SET = "the clock was set"


class ClockSteps:
    """Compares the wall clock with a monotonic one from one call to the next.

    Parameters
    ----------
    wall
        The clock that can be set.
    monotonic
        Seconds of the clock that cannot be set; it stops while the machine sleeps, which counts as a step forward.
    """

    def __init__(self, wall: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._last = self._read()
        self._pending_s = 0.0

    def pending_s(self) -> float:
        """Return by how many seconds the clock was set since `handled`; negative for back, 0.0 if it was not set."""
        before, self._last = self._last, self._read()
        step_s = (self._last[0] - before[0]).total_seconds() - (self._last[1] - before[1])
        if abs(step_s) >= MIN_STEP_S:
            self._pending_s += step_s
        return self._pending_s

    def handled(self) -> None:
        """Forget the step, after the caller has handled it."""
        self._pending_s = 0.0

    def _read(self) -> tuple[datetime, float]:
        """Read both clocks almost simultaneously, however busy the machine is."""
        while True:
            before = self._monotonic()
            wall = self._wall()
            after = self._monotonic()
            if after - before < MIN_STEP_S / 4:
                return wall, after


def in_words(step_s: float) -> str:
    """Describe a step for people."""
    return f"{CLOCK_WAS_SET} {'forward' if step_s > 0 else 'back'} by {abs(step_s):.0f} s"

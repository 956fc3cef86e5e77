"""When a series counts as complete.

DICOM has no signal for it: a release is not one, and a study may come over several associations. A quiet period is
the one piece of evidence that always exists; an instance that comes later starts a new generation of the series.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Completeness:
    """Whether a series is complete, and why."""

    is_complete: bool
    reason: str


def judge_completeness(last_arrival_at: datetime, now: datetime, *, quiet_s: float) -> Completeness:
    """Complete once no instance has arrived for ``quiet_s`` seconds.

    A clock that was set back makes the last arrival lie in the future; the series then waits until the clock is past
    it again, which is late but never too early.
    """
    silent_s = (now - last_arrival_at).total_seconds()
    if now >= last_arrival_at + timedelta(seconds=quiet_s):
        return Completeness(True, f"no instance for {silent_s:.0f} s (quiet period {quiet_s:g} s)")
    return Completeness(False, f"last instance {silent_s:.0f} s ago (quiet period {quiet_s:g} s)")

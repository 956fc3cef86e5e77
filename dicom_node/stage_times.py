"""How long the stages of an analysis take, from the reports of the newest volumes; for people and for monitoring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

N_TIMED: Final = 200  # newest volumes whose stages are timed


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long a stage took."""

    stage: str
    n_volumes: int
    median_s: float
    longest_s: float


def stage_times(reports: Iterable[Mapping[str, Any]]) -> tuple[StageTime, ...]:
    """Return how long the stages took, in the order in which they happen."""
    times: dict[str, list[float]] = {}
    for report in reports:
        for stage, seconds in report.get("timings_s", {}).items():
            times.setdefault(stage, []).append(float(seconds))
    return tuple(StageTime(stage, len(found), median(found), max(found)) for stage, found in times.items())

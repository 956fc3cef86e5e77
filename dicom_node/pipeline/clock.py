"""Periodic work: each tick looks at the store and does what is due.

Every tick may run in several processes at once and may be killed half way: what it does is conditional on what the
store contains at that moment. A tick that fails is repeated, and is logged once while it fails; a tick that takes
longer than its interval is not started twice, and the ticks missed meanwhile count as one.

The scheduler uses the wall clock. If that is set back, the next run of every tick would be as far in the future,
so a thread detects this and runs all ticks at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from dicom_node.logs import RepeatedFailure
from dicom_node.pipeline.clock_steps import ClockSteps, in_words

log = logging.getLogger(__name__)

WATCH_S = 1.0  # between two looks at whether the clock was set


@dataclass(frozen=True, slots=True)
class Tick:
    """A function to call periodically."""

    name: str
    look: Callable[[], object]
    interval_s: float


class Clock:
    """Runs each tick in a thread of its own, so that none waits for another; stops at the end of its ``with`` block."""

    def __init__(self, ticks: Sequence[Tick]) -> None:
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(max_workers=max(1, len(ticks)))},
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        )
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._watch_clock, name="clock-steps", daemon=True)
        for tick in ticks:
            self._scheduler.add_job(
                _guarded(tick),
                IntervalTrigger(seconds=tick.interval_s, timezone=UTC),
                id=tick.name,
                name=tick.name,
                next_run_time=_now(),
            )

    def __enter__(self) -> Self:
        self._scheduler.start()
        self._watch.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Start no more ticks and wait for those that are running."""
        self._done.set()
        self._watch.join()
        self._scheduler.shutdown(wait=True)

    def _watch_clock(self) -> None:
        steps = ClockSteps(_now)
        while not self._done.wait(WATCH_S):
            step_s = steps.pending_s()
            if step_s:
                steps.handled()
                log.warning("%s; all periodic work runs now", in_words(step_s))
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=_now())


def _guarded(tick: Tick) -> Callable[[], None]:
    failure = RepeatedFailure(log, "tick failed; it comes again", "tick works again", tick=tick.name)

    def look() -> None:
        try:
            tick.look()
        except Exception as error:  # noqa: BLE001 - no caller could catch it
            failure.failed(error)
        else:
            failure.worked()

    return look


def _now() -> datetime:
    return datetime.now(UTC)

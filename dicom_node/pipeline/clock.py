"""What happens by time: each tick looks at the store and does what is due.

Every tick may run in several processes at once and may be killed half way: what it does is conditional on what the
store holds at that moment. A tick that fails comes again, and is logged once for as long as it fails; a tick that takes
longer than its interval is not started a second time, and those that were missed meanwhile count as one.

The scheduler goes by the wall clock. When that is set back, the next run of every tick would lie as far in the future;
so a thread watches for it and has all ticks run at once.
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
    """Something to look at, again and again."""

    name: str
    look: Callable[[], object]
    interval_s: float


class Clock:
    """Runs ticks in threads of their own, so that none waits for another; stops at the end of its ``with`` block."""

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
        """Start no tick any more and wait for those under way."""
        self._done.set()
        self._watch.join()
        self._scheduler.shutdown(wait=True)

    def _watch_clock(self) -> None:
        steps = ClockSteps(_now)
        while not self._done.wait(WATCH_S):
            step_s = steps.pending_s()
            if step_s:
                steps.handled()
                log.warning("%s; everything that is done by time is looked at now", in_words(step_s))
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=_now())


def _guarded(tick: Tick) -> Callable[[], None]:
    failure = RepeatedFailure(log, "tick failed; it comes again", "tick works again", tick=tick.name)

    def look() -> None:
        try:
            tick.look()
        except Exception as error:  # noqa: BLE001 - nobody is there to catch it
            failure.failed(error)
        else:
            failure.worked()

    return look


def _now() -> datetime:
    return datetime.now(UTC)

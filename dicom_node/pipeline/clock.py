"""What happens by time: each tick looks at the store and does what is due.

Every tick may run in several processes at once and may be killed half way: what it does is conditional on what the
store holds at that moment. A tick that fails is logged and comes again; a tick that takes longer than its interval
is not started a second time, and those that were missed meanwhile count as one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from dicom_node.logs import log_failure

log = logging.getLogger(__name__)


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
        for tick in ticks:
            self._scheduler.add_job(
                _guarded(tick),
                IntervalTrigger(seconds=tick.interval_s, timezone=UTC),
                id=tick.name,
                name=tick.name,
                next_run_time=datetime.now(UTC),
            )

    def __enter__(self) -> Self:
        self._scheduler.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Start no tick any more and wait for those under way."""
        self._scheduler.shutdown(wait=True)


def _guarded(tick: Tick) -> Callable[[], None]:
    def look() -> None:
        try:
            tick.look()
        except Exception as error:  # noqa: BLE001 - nobody is there to catch it
            log_failure(log, "tick failed; it comes again", error, tick=tick.name)

    return look

"""Notice that a run is asked to stop, so that it can save itself first."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class StopSignals:
    """While entered, SIGTERM and a first SIGINT are noted; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self._is_stopped = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_stopped(self) -> bool:
        """Whether a signal came."""
        return self._is_stopped

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._is_stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._is_stopped = True

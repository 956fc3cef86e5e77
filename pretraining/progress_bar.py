"""Show how far a run is: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pretraining.loop import Watch

LINE_EVERY_S = 30.0


@contextmanager
def watching(is_stopped: Callable[[], bool], *, is_shown: bool = True) -> Iterator[Watch]:
    """Yield what the loop tells its progress to."""
    if not is_shown:
        yield Watch(is_stopped=is_stopped)
    elif sys.stderr.isatty():
        with _bar(is_stopped) as watch:
            yield watch
    else:
        lines = _Lines()
        yield Watch(lines.begin, lines.step, is_stopped)


@contextmanager
def _bar(is_stopped: Callable[[], bool]) -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps · loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as bar:
        task = bar.add_task("training", total=None, loss="-")

        def step(done: int, loss: float | None) -> None:
            told = {} if loss is None else {"loss": f"{loss:.4f}"}
            bar.update(task, completed=done, **told)  # type: ignore[arg-type]

        yield Watch(lambda done, total: bar.update(task, completed=done, total=total), step, is_stopped)


class _Lines:
    """A line on standard error at most every 30 seconds, and for the last step."""

    def __init__(self) -> None:
        self._first = self._total = 0
        self._began = self._told = time.monotonic()
        self._loss: float | None = None

    def begin(self, done: int, total: int) -> None:
        self._first, self._total = done, total
        self._began = self._told = time.monotonic()

    def step(self, done: int, loss: float | None) -> None:
        self._loss = self._loss if loss is None else loss
        now = time.monotonic()
        if now - self._told < LINE_EVERY_S and done < self._total:
            return
        self._told = now
        left_s = (now - self._began) / (done - self._first) * (self._total - done)
        loss_told = "" if self._loss is None else f", loss {self._loss:.4f}"
        sys.stderr.write(f"{done} of {self._total} steps{loss_told}, {duration(left_s)} left\n")
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

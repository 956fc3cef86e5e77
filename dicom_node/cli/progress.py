"""Progress of an offline run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import typer

from dicom_node.offline.item_results import Failure
from dicom_node.offline.run import Progress
from inference.series.files import Rejected

MAX_ALIKE = 3


class RunProgress(Progress, Protocol):
    """Progress that is shown while a ``with`` block runs."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class PlainProgress:
    """A line on standard error for every volume and failure."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._n_items = 0
        self._n_done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def begin(self, n_items: int) -> None:
        """Store the number of items."""
        self._n_items = n_items

    def stage(self, name: str, stage: str) -> None:
        """Write the stage if the run is verbose."""
        if self._verbose:
            self._write(f"{self._place()} {name}: {stage}")

    def volume(self, report: Mapping[str, Any], *, is_new: bool) -> None:
        """Write the findings of a volume."""
        self._write(f"{self._place()} {volume_line(report, is_new=is_new)}")

    def failure(self, failure: Failure, traceback: str) -> None:
        """Write which input has no result, and why."""
        self._write(failure_line(failure))
        if self._verbose:
            self._write(traceback)

    def advance(self) -> None:
        """Count one more item as finished."""
        self._n_done += 1

    def _place(self) -> str:
        return f"[{min(self._n_done + 1, self._n_items)}/{self._n_items}]"

    def _write(self, line: str) -> None:
        typer.echo(line, err=True)


class BarProgress(PlainProgress):
    """The same lines above a bar with the stage, for a terminal."""

    def __init__(self, *, verbose: bool) -> None:
        super().__init__(verbose=verbose)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True, highlight=False, markup=False),
        )
        self._task = self._bar.add_task("looking at models and inputs", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, n_items: int) -> None:
        """Set the length of the bar."""
        super().begin(n_items)
        self._bar.update(self._task, total=n_items, description="")

    def stage(self, name: str, stage: str) -> None:
        """Show the stage next to the bar."""
        self._bar.update(self._task, description=f"{stage} · {name if len(name) < 32 else '…' + name[-30:]}")

    def advance(self) -> None:
        """Move the bar."""
        super().advance()
        self._bar.advance(self._task)

    def _write(self, line: str) -> None:
        self._bar.print(line, soft_wrap=True)


def make_progress(*, verbose: bool) -> RunProgress:
    """Return a bar if standard error is a terminal, else plain lines."""
    return BarProgress(verbose=verbose) if sys.stderr.isatty() else PlainProgress(verbose=verbose)


@contextmanager
def counting_bar(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar with a count and the remaining time if standard error is a terminal."""
    with growing_bar(what) as (begin, advance):
        begin(total)
        yield advance


@contextmanager
def growing_bar(what: str) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """Show a bar whose length is told later; yield how to tell it, and how to advance it."""
    if not sys.stderr.isatty():
        yield lambda _: None, lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True, highlight=False)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda total: bar.update(task, total=total), lambda: bar.advance(task)


def volume_line(report: Mapping[str, Any], *, is_new: bool) -> str:
    """Return the findings of one volume as one line."""
    seconds = sum(report["timings_s"].values())
    when = f"{seconds:.1f} s" if is_new else "finished earlier"
    return (
        f"{report['name']}: {report['verdict']} ({report['probability']:.2f}), "
        f"foreground {report['foreground_ml']:.0f} mL, anonymised area {report['anonymized_ml']:.1f} mL, {when}"
    )


def rejected_lines(rejected: Sequence[Rejected]) -> Iterator[str]:
    """Yield one line per object; for many of a kind in a folder, one for the first and one that counts the others."""
    kinds: dict[tuple[str, str], list[Rejected]] = {}
    for each in rejected:
        kinds.setdefault((each.code, str(Path(each.name).parent)), []).append(each)
    for (code, folder), alike in kinds.items():
        shown = alike if len(alike) <= MAX_ALIKE else alike[:1]
        for each in shown:
            yield failure_line(Failure(each.name, each.code, each.reason))
        if len(shown) < len(alike):
            yield f"error: {folder}: {len(alike) - 1} more like it, listed in summary.json [{code}]"


def failure_line(failure: Failure) -> str:
    """Return which input failed and why, as one line."""
    named = "" if failure.name in failure.message else f"{failure.name}: "
    return f"error: {named}{' '.join(failure.message.split())} [{failure.code}]"

"""A run of the command ``dataset``: results of ``segment`` in, volumes, layouts, ``manifest.json`` and a page out.

The output depends on the inputs alone: neither times nor the number of workers are in it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from dicom_node.datasets.errors import DatasetOutputError
from dicom_node.datasets.finishing import OWN_NAMES, Options, RefusedVolume, finish_dataset
from dicom_node.datasets.layouts import VOLUMES, Entry
from dicom_node.datasets.results import Task, find_results, find_tasks
from dicom_node.datasets.subjects import give_places
from dicom_node.datasets.tasks import Outcome, run_task
from dicom_node.datasets.workers import run_groups
from dicom_node.offline.replacing import PARTIAL_PREFIX, clear_left_overs


class RunTasks(Protocol):
    """Where the tasks of a dataset run."""

    def __call__(
        self, tasks: Sequence[Task], run: Callable[[Task], tuple[Outcome, ...]], /
    ) -> Generator[tuple[int, tuple[Outcome, ...]], None, None]:
        """Yield the index of each task with its outcomes, as they end."""
        ...


def make_dataset(
    sources: Sequence[Path],
    images: Sequence[Path],
    out: Path,
    options: Options,
    *,
    on_begin: Callable[[int], None],
    on_task: Callable[[], None],
    run_tasks: RunTasks | None = None,
) -> dict[str, Any]:
    """Write the dataset and return its manifest.

    Parameters
    ----------
    sources
        Folders that ``segment`` wrote.
    images
        Where to look for the images, besides the inputs that the sources name.
    on_begin, on_task
        Told the number of inputs, and each time that one is done.
    run_tasks
        Where the tasks run; in ``options.workers`` processes when None.

    Raises
    ------
    NothingSegmentedError
        A source has no results.
    DatasetOutputError
        The output folder is a source, or holds other things.
    WorkerKilledError
        A worker process was killed.
    """
    _check_output(out, sources)
    tasks = find_tasks(find_results(sources), sources, images)
    on_begin(len(tasks))
    (out / VOLUMES).mkdir(parents=True, exist_ok=True)
    clear_left_overs(out / VOLUMES, lambda _: True)
    found: dict[int, tuple[Outcome, ...]] = {}
    run_tasks = run_tasks or _in_processes(options.workers)
    with closing(run_tasks(tasks, partial(run_task, volumes=out / VOLUMES))) as finished:  # an interrupt ends all
        for index, done in finished:
            found[index] = done
            on_task()
    outcomes = [outcome for index in range(len(tasks)) for outcome in found[index]]
    used, repeated = _first_of_each(outcome for outcome in outcomes if outcome.record is not None)
    refused = [
        RefusedVolume(outcome.id, outcome.result.name, outcome.result.folder.parent.name, outcome.refusal)
        for outcome in outcomes
        if outcome.refusal is not None
    ]
    places = give_places({outcome.id: outcome.owner for outcome in used if outcome.owner is not None})
    entries = [Entry(outcome.record, places[outcome.id]) for outcome in used if outcome.record is not None]
    manifest = finish_dataset(
        out, entries, refused, [(outcome.result.name, outcome.id) for outcome in repeated], options
    )
    return {**manifest, "n_new": sum(outcome.is_new for outcome in used)}


def _in_processes(workers: int) -> RunTasks:
    """Run tasks in processes of this machine; fewer than two means this process."""

    def run_tasks(
        tasks: Sequence[Task], run: Callable[[Task], tuple[Outcome, ...]], /
    ) -> Generator[tuple[int, tuple[Outcome, ...]], None, None]:
        groups = ((index, (task,)) for index, task in enumerate(tasks))
        with closing(run_groups(groups, run, workers=min(workers, len(tasks)))) as finished:
            for index, (done,) in finished:
                yield index, done

    return run_tasks


def _first_of_each(outcomes: Iterable[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Divide volumes into the first of each content, and those that repeat one."""
    first: dict[str, Outcome] = {}
    repeated = []
    for outcome in outcomes:
        if outcome.id in first:
            repeated.append(outcome)
        else:
            first[outcome.id] = outcome
    return list(first.values()), repeated


def _check_output(out: Path, sources: Sequence[Path]) -> None:
    """Raise unless the folder is new, empty, or written by this command."""
    if out.exists() and out.resolve() in {source.resolve() for source in sources}:
        raise DatasetOutputError(str(out), "is one of the sources; give another folder with -o")
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    names = {name for name in names if not name.startswith(PARTIAL_PREFIX)}
    if names and not (VOLUMES in names and names <= OWN_NAMES):
        other = min(names - OWN_NAMES, default=min(names))
        raise DatasetOutputError(str(out), f"holds {other!r}, which no dataset does; give a new or empty folder")

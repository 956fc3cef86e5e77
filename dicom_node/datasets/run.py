"""A run of the command ``dataset``: results of ``segment`` in, volumes, layouts, ``manifest.json`` and a page out.

The output depends on the inputs alone: neither times nor the number of workers are in it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import dicom_node
from dicom_node.datasets.errors import DatasetOutputError, WorkerKilledError
from dicom_node.datasets.layouts import VOLUMES, Entry, Layout, MaskMode, Name, write_layouts
from dicom_node.datasets.notes import notes_on
from dicom_node.datasets.page import render_page
from dicom_node.datasets.results import Task, find_results, find_tasks
from dicom_node.datasets.subjects import give_places
from dicom_node.datasets.tasks import Outcome, run_task
from dicom_node.datasets.volumes import encode_json
from dicom_node.offline.names import PAGE
from dicom_node.offline.replacing import PARTIAL_PREFIX, sync

MANIFEST: Final = "manifest.json"
PICTURES: Final = "refused"
_OWN: Final = frozenset({MANIFEST, VOLUMES, PAGE, PICTURES, *Layout})


@dataclass(frozen=True, slots=True)
class Options:
    """What a dataset is to be."""

    layouts: tuple[Layout, ...]
    mode: MaskMode
    name: Name
    workers: int


def make_dataset(
    sources: Sequence[Path],
    images: Sequence[Path],
    out: Path,
    options: Options,
    *,
    on_begin: Callable[[int], None],
    on_task: Callable[[], None],
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
    outcomes: list[Outcome] = []
    with closing(_run(tasks, out / VOLUMES, options.workers)) as finished:  # an interrupt ends the processes too
        for done in finished:
            outcomes += done
            on_task()
    used, repeated = _first_of_each(outcome for outcome in outcomes if outcome.record is not None)
    refused = [outcome for outcome in outcomes if outcome.refusal is not None]
    places = give_places({outcome.id: outcome.owner for outcome in used if outcome.owner is not None})
    entries = [Entry(outcome.record, places[outcome.id]) for outcome in used if outcome.record is not None]
    write_layouts(out, entries, options.layouts, name=options.name, mode=options.mode)
    manifest = _manifest(entries, refused, repeated, options)
    _write_pictures(out / PICTURES, refused)
    _write(out / MANIFEST, encode_json(manifest))
    _write(out / PAGE, "".join(render_page(manifest)).encode())
    return {**manifest, "n_new": sum(outcome.is_new for outcome in used)}


def _run(tasks: Sequence[Task], volumes: Path, workers: int) -> Generator[tuple[Outcome, ...], None, None]:
    run = partial(run_task, volumes=volumes)
    if workers < 2 or len(tasks) < 2:
        yield from map(run, tasks)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload([run_task.__module__])
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_ignore_interrupts) as pool:
        try:
            yield from pool.map(run, tasks)
        except BrokenProcessPool as error:
            raise WorkerKilledError from error


def _ignore_interrupts() -> None:
    """Let a process finish its volume when the user interrupts the command; the others are not begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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


def _manifest(
    entries: Sequence[Entry], refused: Sequence[Outcome], repeated: Sequence[Outcome], options: Options
) -> dict[str, Any]:
    volumes = [
        {**entry.record, "subject": entry.place.subject, "session": entry.place.session}
        for entry in sorted(entries, key=lambda entry: entry.id)
    ]
    return {
        "node_version": dicom_node.__version__,
        "name": options.name.folder,
        "layouts": list(options.layouts),
        "masks": options.mode,
        "notes": notes_on(entries, options.layouts, options.mode),
        "n_volumes": len(volumes),
        "n_subjects": len({volume["subject"] for volume in volumes}),
        "n_refused": len(refused),
        "volumes": volumes,
        "refused": [
            {
                "result": str(outcome.result.name),
                "source": outcome.result.folder.parent.name,
                "code": outcome.refusal.code,
                "reason": outcome.refusal.reason,
                "picture": f"{PICTURES}/{outcome.id}.png" if outcome.refusal.picture is not None else None,
            }
            for outcome in refused
            if outcome.refusal is not None
        ],
        "repeated": [{"result": outcome.result.name, "id": outcome.id} for outcome in repeated],
    }


def _write_pictures(folder: Path, refused: Sequence[Outcome]) -> None:
    """Replace the pictures of refused volumes."""
    for old in folder.glob("v*.png"):
        old.unlink()
    for outcome in refused:
        if outcome.refusal is not None and outcome.refusal.picture is not None:
            folder.mkdir(exist_ok=True)
            (folder / f"{outcome.id}.png").write_bytes(outcome.refusal.picture)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _write(path: Path, content: bytes) -> None:
    partial_path = path.with_name(f"{PARTIAL_PREFIX}{path.name}")
    partial_path.write_bytes(content)
    sync(partial_path)
    partial_path.replace(path)


def _check_output(out: Path, sources: Sequence[Path]) -> None:
    """Raise unless the folder is new, empty, or written by this command."""
    if out.exists() and out.resolve() in {source.resolve() for source in sources}:
        raise DatasetOutputError(str(out), "is one of the sources; give another folder with -o")
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    names = {name for name in names if not name.startswith(PARTIAL_PREFIX)}
    if names and not (VOLUMES in names and names <= _OWN):
        other = min(names - _OWN, default=min(names))
        raise DatasetOutputError(str(out), f"holds {other!r}, which no dataset does; give a new or empty folder")

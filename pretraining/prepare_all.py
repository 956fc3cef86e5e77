"""Prepare all volumes of a dataset in several processes, and list those that must not be used."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from pretraining.dataset import Shape, StoredVolume
from pretraining.errors import DatasetRefused, DiskFullError, VolumeRefused, WorkerKilledError
from pretraining.prepare import PrepareSettings, prepare_volume, selectable
from pretraining.sources import SourceVolume, find_volumes

PREPARED = "prepared"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Volumes to train on, and why others are left out, by ID; both sorted by ID."""

    volumes: tuple[StoredVolume, ...]
    refused: dict[str, VolumeRefused]


def prepare_dataset(
    dataset: Path,
    settings: PrepareSettings,
    patch: Shape,
    *,
    folder: Path | None = None,
    workers: int = 1,
    on_begin: Callable[[int], None] = lambda _: None,
    on_volume: Callable[[], None] = lambda: None,
) -> Prepared:
    """Prepare all volumes of a dataset; what an earlier run prepared from the same contents is kept.

    Parameters
    ----------
    folder
        Where prepared volumes go; by default ``prepared`` in the dataset.
    workers
        Number of processes.

    Raises
    ------
    DatasetRefused
        No volume can be used.
    DiskFullError, WorkerKilledError
        Run the same command again when there is space, or memory.
    """
    sources = find_volumes(dataset, use_masks=settings.use_masks)
    on_begin(len(sources))
    place = (folder or dataset / PREPARED) / settings.key
    volumes, refused = [], {}
    try:
        for source, result in _results(sources, place, settings, workers):
            problem = result if isinstance(result, VolumeRefused) else selectable(result, patch)
            if problem is not None:
                refused[source.id] = problem
            elif isinstance(result, StoredVolume):
                volumes.append(result)
            on_volume()
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(str(place)) from error
        raise
    if not volumes:
        name, why = next(iter(sorted(refused.items())))
        raise DatasetRefused(str(dataset), f"none of {len(sources)} volumes can be used; {name}: {why}")
    return Prepared(tuple(sorted(volumes, key=lambda volume: volume.id)), dict(sorted(refused.items())))


def _results(
    sources: Sequence[SourceVolume], place: Path, settings: PrepareSettings, workers: int
) -> Iterator[tuple[SourceVolume, StoredVolume | VolumeRefused]]:
    if workers <= 1 or len(sources) <= 1:
        for source in sources:
            yield source, prepare_volume(source, place, settings)
        return
    with ProcessPoolExecutor(min(workers, len(sources)), get_context("spawn"), _one_thread) as pool:
        futures = {pool.submit(prepare_volume, source, place, settings): source for source in sources}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise WorkerKilledError("a process that prepares volumes", "use --workers 1") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"

"""An offline run on a cluster: one task for each series or NIfTI file; workers write the results themselves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicom_node.cluster.connect import ComputeCluster
from dicom_node.cluster.sameness import Wanted
from dicom_node.offline.item_results import ItemResult, no_result
from dicom_node.offline.items import Item
from dicom_node.pipeline_digest import pipeline_digest
from inference.series.files import InstanceSource, Rejected, SeenHeader, look_at

if TYPE_CHECKING:  # a scheduler reads tasks too, and needs no PyTorch
    from dicom_node.offline.run import Progress, RunResult


LOOK_AT: Final = 500  # files in one task of the survey


@dataclass(frozen=True, slots=True)
class ItemTask:
    """One item, and what its worker needs to know."""

    item: Item
    output: Path
    pipeline_digest: str
    overwrite: bool
    wanted: Wanted


def run_item(task: ItemTask) -> tuple[ItemResult, ...]:
    """Do the work on one item, on a worker; another thread may read the next item meanwhile.

    Raises
    ------
    WorkerUnfitError
        This worker would compute something else.
    """
    from dicom_node.cluster.on_worker import MODELS_IN_USE, models_for
    from dicom_node.offline.item_work import ItemWork
    from dicom_node.offline.output import OutputFolder

    models = models_for(task.wanted)
    if models is None:
        raise RuntimeError("a task of segment names no models")
    work = ItemWork(models, OutputFolder(task.output), task.pipeline_digest, task.overwrite)
    try:
        prepared = work.prepare(task.item)
    except Exception as error:  # noqa: BLE001 - the item's failure is recorded, as in a run without a cluster
        return (no_result(task.item.name, error),)
    with MODELS_IN_USE:
        return tuple(work.finish(task.item, prepared, lambda _name, _stage: None))


def look_on(
    cluster: ComputeCluster, wanted: Wanted, *, on_refused: Callable[[str, str], None]
) -> Callable[[Sequence[InstanceSource]], Iterable[SeenHeader | Rejected]]:
    """Return a function that lets a cluster read headers; it raises what the cluster raises."""

    def look(sources: Sequence[InstanceSource]) -> Iterable[SeenHeader | Rejected]:
        chunks = [sources[start : start + LOOK_AT] for start in range(0, len(sources), LOOK_AT)]
        found: dict[int, list[SeenHeader | Rejected]] = {}
        ended = cluster.run(
            look_at_all, len(chunks), chunks.__getitem__, wanted, on_refused=on_refused, on_workers=lambda _: None
        )
        with closing(ended):
            for index, outcome in ended:
                if isinstance(outcome, BaseException):
                    raise outcome
                found[index] = outcome
        return itertools.chain.from_iterable(found[index] for index in range(len(chunks)))

    return look


def look_at_all(sources: Sequence[InstanceSource]) -> list[SeenHeader | Rejected]:
    """Read headers, on a worker."""
    return [look_at(source) for source in sources]


def run_items_on(
    cluster: ComputeCluster,
    items: Sequence[Item],
    wanted: Wanted,
    output: Path,
    *,
    overwrite: bool,
    progress: Progress,
    on_refused: Callable[[str, str], None],
) -> RunResult:
    """Segment every item on a cluster; the result is in the order of the items, as without one.

    Paths of items and output must mean the same on the workers.

    Raises
    ------
    NoWorkersError
        Nobody is there to work, or everybody there was refused.
    """
    from dicom_node.offline.run import RunResult, tell_result

    progress.begin(len(items))
    digest = pipeline_digest(model.identity for model in wanted.models)

    def task_of(index: int) -> ItemTask:
        return ItemTask(items[index], output, digest, overwrite, wanted)

    found: dict[int, RunResult] = {}  # what the summary says, not whole reports
    ended = cluster.run(
        run_item,
        len(items),
        task_of,
        wanted,
        on_refused=on_refused,
        on_workers=lambda n: progress.stage(f"{n} workers", "cluster"),
    )
    with closing(ended):  # an interrupt takes back what has not ended
        for index, outcome in ended:
            results = (no_result(items[index].name, outcome),) if isinstance(outcome, BaseException) else outcome
            found[index] = RunResult()
            for one in results:
                found[index].add(items[index], one)
                tell_result(progress, one)
            progress.advance()
    result = RunResult()
    for index in range(len(items)):
        result.volumes += found[index].volumes
        result.failures += found[index].failures
    return result

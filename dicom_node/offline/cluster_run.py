"""An offline run on a cluster: one task for each series or NIfTI file; workers write the results themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.cluster.connect import ComputeCluster
from dicom_node.cluster.sameness import Wanted
from dicom_node.offline.item_results import ItemResult, no_result
from dicom_node.offline.items import Item
from dicom_node.pipeline_digest import pipeline_digest
from inference.series.files import InstanceSource, PathSource, ZipMemberSource

if TYPE_CHECKING:  # a scheduler reads tasks too, and needs no PyTorch
    from dicom_node.offline.run import Progress, RunResult


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

    Raises
    ------
    NoWorkersError
        Nobody is there to work, or everybody there was refused.
    """
    from dicom_node.offline.run import RunResult, tell_result

    progress.begin(len(items))
    digest = pipeline_digest(model.identity for model in wanted.models)
    place = output if cluster.is_here else output.absolute()

    def task_of(index: int) -> ItemTask:
        item = items[index] if cluster.is_here else _absolute(items[index])
        return ItemTask(item, place, digest, overwrite, wanted)

    found: dict[int, tuple[ItemResult, ...]] = {}
    ended = cluster.run(
        run_item,
        len(items),
        task_of,
        wanted,
        on_refused=on_refused,
        on_workers=lambda n: progress.stage(f"{n} workers", "cluster"),
    )
    for index, outcome in ended:
        results = (no_result(items[index].name, outcome),) if isinstance(outcome, BaseException) else outcome
        found[index] = results
        for one in results:
            tell_result(progress, one)
        progress.advance()
    result = RunResult()
    for index, item in enumerate(items):
        for one in found[index]:
            result.add(item, one)
    return result


def _absolute(item: Item) -> Item:
    """Return the item with paths that mean the same on another machine."""
    nifti = item.nifti.absolute() if item.nifti is not None else None
    return Item(item.name, tuple(map(_absolute_source, item.sources)), nifti)


def _absolute_source(source: InstanceSource) -> InstanceSource:
    if isinstance(source, PathSource):
        return PathSource(source.path.absolute())
    if isinstance(source, ZipMemberSource):
        return replace(source, archive=source.archive.absolute())
    return source

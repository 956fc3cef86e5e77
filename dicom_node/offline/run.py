"""An offline run in this process: read each item while the previous one is segmented; report failures and continue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import dicom_node
from dicom_node.offline.item_results import Failure, ItemResult, VolumeDone, no_result
from dicom_node.offline.item_work import ItemWork, PreparedItem
from dicom_node.offline.items import Item
from inference.models import ModelIdentity
from inference.series.files import Rejected

_SUMMARY_KEYS = (
    "name",
    "series_instance_uid",
    "stack_number",
    "modality",
    "verdict",
    "probability",
    "foreground_ml",
    "anonymized_ml",
    "timings_s",
)


@dataclass(slots=True)
class RunResult:
    """Results of an offline run; the failures are complete when it ends."""

    volumes: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, item: Item, result: ItemResult) -> None:
        """Record one result of an item."""
        if isinstance(result, VolumeDone):
            self.volumes.append(_summary_entry(result, item))
        else:
            self.failures.append(result.failure)


class Progress(Protocol):
    """Receiver of a run's progress."""

    def begin(self, n_items: int) -> None:
        """Called once."""

    def stage(self, name: str, stage: str) -> None:
        """Report that item ``name`` has reached a stage."""

    def volume(self, report: dict[str, Any], *, is_new: bool) -> None:
        """Report that a volume's results exist, written by an earlier run if ``is_new`` is false."""

    def failure(self, failure: Failure, traceback: str) -> None:
        """Report that an item, or one volume of it, has no result."""

    def advance(self) -> None:
        """Report that an item is finished."""


def run_items(items: Sequence[Item], work: ItemWork, *, progress: Progress) -> RunResult:
    """Segment every item, one after the other."""
    result = RunResult()
    progress.begin(len(items))
    for item, prepared in _read_ahead(items, work.prepare):
        progress.stage(item.name, "reading")
        for one in _results_of(item, prepared, work, progress):
            result.add(item, one)
            tell_result(progress, one)
        progress.advance()
    return result


def tell_result(progress: Progress, result: ItemResult) -> None:
    """Report one result of an item."""
    if isinstance(result, VolumeDone):
        progress.volume(result.report, is_new=result.is_new)
    else:
        progress.failure(result.failure, result.traceback)


def summarise(
    result: RunResult,
    not_used: Sequence[Rejected],
    models: Iterable[ModelIdentity],
    *,
    inputs: Sequence[Path],
    started_at: datetime,
    ended_at: datetime,
) -> dict[str, Any]:
    """Return the contents of ``summary.json``; ``inputs`` lets `dicom-node dataset` find the images again."""
    return {
        "node_version": dicom_node.__version__,
        "started_at": started_at.isoformat(),
        "ended_at": ended_at.isoformat(),
        "models": [
            {"role": model.role, "name": model.name, "version": model.version, "sha256": model.sha256}
            for model in models
        ],
        "inputs": [str(path.absolute()) for path in inputs],
        "n_volumes": len(result.volumes),
        "n_failed": len(result.failures),
        "volumes": result.volumes,
        "failed": [
            {"name": failure.name, "code": failure.code, "message": failure.message} for failure in result.failures
        ],
        "not_used": [{"name": item.name, "code": item.code, "reason": item.reason} for item in not_used],
    }


def _results_of(item: Item, prepared: Future[PreparedItem], work: ItemWork, progress: Progress) -> Iterator[ItemResult]:
    try:
        ready = prepared.result()
    except Exception as error:  # noqa: BLE001 - the one place where an item's failure is recorded
        yield no_result(item.name, error)
    else:
        yield from work.finish(item, ready, progress.stage)


def _read_ahead(
    items: Sequence[Item], prepare: Callable[[Item], PreparedItem]
) -> Iterator[tuple[Item, Future[PreparedItem]]]:
    """Yield each item while the next is being read, so that at most two series are in memory."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as pool:
        current: Future[PreparedItem] | None = None
        for index, item in enumerate(items):
            ready = pool.submit(prepare, item) if current is None else current
            wait((ready,))  # before the next one starts, so that no third series is read
            current = pool.submit(prepare, items[index + 1]) if index + 1 < len(items) else None
            yield item, ready
            del ready


def _summary_entry(done: VolumeDone, item: Item) -> dict[str, Any]:
    return {
        **{key: done.report.get(key) for key in _SUMMARY_KEYS},
        "status": "written" if done.is_new else "finished earlier",
        "input": str(item.nifti) if item.nifti is not None else None,
    }

"""An offline run: read each item while the previous one is segmented; report failures and continue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import dicom_node
from dicom_node.failures import ErrorKind, classify, error_code
from dicom_node.offline.items import Item
from dicom_node.offline.output import OutputFolder
from dicom_node.offline.written_at import newest_date
from dicom_node.pipeline_digest import pipeline_digest
from dicom_node.processing import process_volume, volume_name
from inference.segment import Models
from inference.series.files import Rejected
from inference.series.volume import SourceVolume

log = logging.getLogger(__name__)

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
OFFLINE_GENERATION = 1  # a run sees a series once; instances that arrive later need another run


@dataclass(frozen=True, slots=True)
class Failure:
    """An input without a result, and why."""

    name: str
    code: str
    message: str


@dataclass(slots=True)
class RunResult:
    """Results of an offline run; the failures are complete when it ends."""

    volumes: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class Progress(Protocol):
    """Receiver of a run's progress."""

    def begin(self, n_items: int) -> None:
        """Called once."""

    def stage(self, name: str, stage: str) -> None:
        """Report that item ``name`` has reached a stage."""

    def volume(self, report: dict[str, Any], *, is_new: bool) -> None:
        """Report that a volume's results exist, written by an earlier run if ``is_new`` is false."""

    def failure(self, failure: Failure, error: BaseException) -> None:
        """Report that an item, or one volume of it, has no result."""

    def advance(self) -> None:
        """Report that an item is finished."""


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """An item whose digest is known, and that is either finished earlier or read."""

    input_sha256: str
    finished: tuple[dict[str, Any], ...]
    volumes: tuple[SourceVolume, ...]
    reading_s: float


def run_items(
    items: Sequence[Item], models: Models, output: OutputFolder, *, overwrite: bool, progress: Progress
) -> RunResult:
    """Segment every item into ``output``; results that exist are kept unless ``overwrite``."""
    result = RunResult()
    digest = pipeline_digest(models.identities)
    progress.begin(len(items))

    def prepare(item: Item) -> _Prepared:
        started = perf_counter()
        input_sha256 = item.digest()
        finished = () if overwrite else output.finished_reports(item, input_sha256, digest)
        volumes = () if finished else item.read()
        return _Prepared(input_sha256, finished, volumes, perf_counter() - started)

    for item, prepared in _read_ahead(items, prepare):
        progress.stage(item.name, "reading")
        try:
            ready = prepared.result()
        except Exception as error:  # noqa: BLE001 - the one place where an item's failure is recorded
            _record_failure(result, item.name, error, progress)
        else:
            _finish_item(item, ready, models, output, digest, result, progress)
        progress.advance()
    return result


def summarise(
    result: RunResult,
    not_used: Sequence[Rejected],
    models: Models,
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
            for model in models.identities
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


def describe(error: BaseException) -> str:
    """Return one sentence for a person; only the type of an unexpected error, whose text may quote headers."""
    if isinstance(error, MemoryError):
        return "not enough memory for this volume"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if classify(error) is ErrorKind.DEFECT:
        return f"a defect of dicom-node ({type(error).__name__}); please report it with what --verbose shows"
    return str(error)


def _read_ahead(
    items: Sequence[Item], prepare: Callable[[Item], _Prepared]
) -> Iterator[tuple[Item, Future[_Prepared]]]:
    """Yield each item while the next is being read, so that at most two series are in memory."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as pool:
        current: Future[_Prepared] | None = None
        for index, item in enumerate(items):
            ready = pool.submit(prepare, item) if current is None else current
            wait((ready,))  # before the next one starts, so that no third series is read
            current = pool.submit(prepare, items[index + 1]) if index + 1 < len(items) else None
            yield item, ready
            del ready


def _finish_item(
    item: Item,
    prepared: _Prepared,
    models: Models,
    output: OutputFolder,
    digest: str,
    result: RunResult,
    progress: Progress,
) -> None:
    for report in prepared.finished:
        result.volumes.append(_summary_entry(report, item, "finished earlier"))
        progress.volume(report, is_new=False)
    for source in prepared.volumes:
        name = volume_name(item.name, source.stack_number)
        try:
            volume = process_volume(
                source,
                models,
                name=name,
                n_stacks=len(prepared.volumes),
                generation=OFFLINE_GENERATION,
                pipeline_digest=digest,
                written_at=newest_date(source.headers) if source.headers else None,
                reading_s=prepared.reading_s / len(prepared.volumes),
                on_stage=lambda stage, name=name: progress.stage(name, stage),  # type: ignore[misc]
            )
            report = {**volume.report.as_json(), "input_sha256": prepared.input_sha256}
            output.write_volume(volume, report, template=item.nifti)
        except Exception as error:  # noqa: BLE001 - the one place where a volume's failure is recorded
            _record_failure(result, name, error, progress)
        else:
            result.volumes.append(_summary_entry(report, item, "written"))
            progress.volume(report, is_new=True)


def _summary_entry(report: dict[str, Any], item: Item, status: str) -> dict[str, Any]:
    return {
        **{key: report.get(key) for key in _SUMMARY_KEYS},
        "status": status,
        "input": str(item.nifti) if item.nifti is not None else None,
    }


def _record_failure(result: RunResult, name: str, error: BaseException, progress: Progress) -> None:
    code = "input-output" if isinstance(error, OSError) else error_code(error)
    failure = Failure(name, code, describe(error))
    log.debug("no result for %s", name, exc_info=error)
    result.failures.append(failure)
    progress.failure(failure, error)

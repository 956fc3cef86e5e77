"""Jobs of a node on a Dask cluster: the node claims and commits, a worker of the cluster computes.

A cluster worker reads the instances from the store's objects itself and returns what the commit needs: SEG, SR and
report. It needs no access to the index, and the scheduler carries no images (docs/decisions/0162).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from dicom_node.cluster.crew import Crew, Told
from dicom_node.cluster.sameness import Wanted
from dicom_node.report import Report
from inference.series.remarks import Remark
from inference.series.stack_choice import StackPolicy
from sr_writer.objects import Predecessor, WrittenObject

if TYPE_CHECKING:
    from dicom_node.pipeline.worker import StoredInstance

WAITING: Final = "waiting for a worker of the cluster"
TELL_S: Final = 1.0  # between two reports on the progress of a stage


@dataclass(frozen=True, slots=True)
class SeriesTask:
    """One job, as a worker of the cluster gets it."""

    sources: tuple[StoredInstance, ...]
    generation: int
    pipeline_digest: str
    written_at: datetime
    predecessors: tuple[Predecessor, ...]
    remarks: tuple[Remark, ...]
    stacks: StackPolicy
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class ComputedVolume:
    """What a job keeps of one volume."""

    report: Report
    objects: tuple[WrittenObject, ...]


def compute_series(task: SeriesTask, topic: str, key: str) -> tuple[ComputedVolume, ...]:
    """Compute a job, on a worker of the cluster.

    Raises
    ------
    WorkerUnfitError
        This worker would compute something else.
    inference.errors.InferenceError, sr_writer.errors.WriterError, dicom_node.store.errors.StoreError
        As in a job of the node itself.
    """
    from dicom_node.cluster.on_worker import MODELS_IN_USE, models_for
    from dicom_node.processing import process_series

    models = models_for(task.wanted)
    if models is None:
        raise RuntimeError("a job names no models")
    tell = _Teller(topic, key)
    with MODELS_IN_USE:
        volumes = process_series(
            task.sources,
            models,
            generation=task.generation,
            pipeline_digest=task.pipeline_digest,
            written_at=task.written_at,
            on_stage=tell.stage,
            on_share=tell.share,
            predecessors=task.predecessors,
            remarks=task.remarks,
            stacks=task.stacks,
        )
    return tuple(ComputedVolume(volume.report, volume.objects) for volume in volumes)


class ClusterEngine:
    """Processor that lets a cluster compute, for `pipeline.worker`."""

    def __init__(self, crew: Crew, wanted: Wanted) -> None:
        self._crew = crew
        self._wanted = wanted

    def __call__(
        self,
        sources: Sequence[StoredInstance],
        *,
        generation: int,
        pipeline_digest: str,
        written_at: datetime,
        on_stage: Callable[[str], None],
        on_share: Callable[[float], None],
        predecessors: Sequence[Predecessor],
        remarks: Sequence[Remark],
        stacks: StackPolicy,
    ) -> tuple[ComputedVolume, ...]:
        """Compute one series; what ``on_stage`` or ``on_share`` raises gives it up."""
        task = SeriesTask(
            tuple(sources),
            generation,
            pipeline_digest,
            written_at,
            tuple(predecessors),
            tuple(remarks),
            stacks,
            self._wanted,
        )
        stage = WAITING
        on_stage(stage)

        def on_told(told: Told | None) -> None:
            nonlocal stage
            now_at, share = told or (stage, None)
            if now_at != stage:
                stage = now_at
                on_stage(stage)
            on_share(share or 0.0)  # also without news: it asks whether the job is still ours

        return self._crew.compute(compute_series, task, on_told=on_told)


class _Teller:
    """Tells the node, through Dask's events, what this worker does."""

    def __init__(self, topic: str, key: str) -> None:
        from distributed import get_worker

        self._worker = get_worker()
        self._topic = topic
        self._key = key
        self._stage = ""
        self._told_at = 0.0

    def stage(self, stage: str) -> None:
        self._stage = stage
        self._tell(None)

    def share(self, share: float) -> None:
        if time.monotonic() - self._told_at >= TELL_S:
            self._tell(share)

    def _tell(self, share: float | None) -> None:
        self._told_at = time.monotonic()
        self._worker.log_event(self._topic, (self._key, self._stage, share))

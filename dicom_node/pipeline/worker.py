"""A worker: claim a job, run the models on its series, and store all results in one transaction."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import BinaryIO, Protocol

from dicom_node.failures import ErrorKind, classify, discreet_traceback, error_code
from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import StudyRules
from dicom_node.logs import RepeatedFailure
from dicom_node.pipeline.errors import AbandonedError, NoInstancesError, SourcesDeletedError
from dicom_node.pipeline.heartbeat import Heartbeat
from dicom_node.pipeline.outcome import VolumeResult, outcome_of, remarks_on_completeness
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.store import JobRow, LeaseLostError, Outcome, Store, Task
from inference.series.remarks import Remark
from inference.series.stack_choice import StackChoice, StackPolicy
from sr_writer.objects import Predecessor

log = logging.getLogger(__name__)

IDLE_WAIT_S = 1.0  # between two looks at an empty queue
TROUBLE_WAIT_S = 5.0  # after the store itself failed


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance in the store, as a source of bytes."""

    name: str
    open: Callable[[], BinaryIO]


class Processor(Protocol):
    """Function that turns a series into results, with the models loaded."""

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
    ) -> Sequence[VolumeResult]:
        """Process the selected stacks of one series; ``predecessors`` are the results that the new ones replace."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """Settings of a worker."""

    owner: str
    pipeline_digest: str  # of the loaded models and rules
    study_rules: StudyRules
    retry: RetryPolicy
    lease_s: float
    kinds_by_peer: Mapping[str, frozenset[str]] = field(default_factory=dict)  # a peer without an entry takes all
    report: Callable[[Task | None], None] = lambda _: None  # told what the worker does
    may_claim: Callable[[], bool] = lambda: True  # asked before each claim, whether a job could begin at once


class Worker:
    """Works on one job at a time until it is told to stop."""

    def __init__(
        self, store: Store, process: Processor, settings: WorkerSettings, *, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._process = process
        self._settings = settings
        self._clock = clock
        self._decide_study = study_decision(settings.study_rules, settings.pipeline_digest)
        self._job: JobRow | None = None

    def run(self, stopping: threading.Event) -> None:
        """Work until ``stopping`` is set; a job that is running then is returned to the queue."""
        failure = RepeatedFailure(log, "store failed; the worker tries again", "store works again")
        while not stopping.is_set():
            try:
                has_worked = self.work_once(stopping)
            except Exception as error:  # noqa: BLE001 - the worker survives any error
                failure.failed(error)
                stopping.wait(TROUBLE_WAIT_S)
            else:
                failure.worked()
                if not has_worked:
                    stopping.wait(IDLE_WAIT_S)

    def give_back(self) -> None:
        """Return the running job to the queue, from another thread; results it still produces here are dropped."""
        job = self._job
        if job is not None and self._store.jobs.release(job.id, self._settings.owner, self._clock()):
            log.warning("job returned to the queue", extra=_fields(job))

    def work_once(self, stopping: threading.Event) -> bool:
        """Claim the next job and finish it; return False if there was none, or none could begin."""
        settings = self._settings
        if not settings.may_claim():
            return False
        job = self._store.jobs.claim(
            settings.owner, self._clock(), settings.lease_s, pipeline_digest=settings.pipeline_digest
        )
        if job is None:
            return False
        fields = _fields(job)
        log.info("job started", extra=fields)
        started = time.monotonic()
        self._job = job
        try:
            with Heartbeat(partial(self._extend, job), lease_s=settings.lease_s) as heartbeat:
                outcome = self._work_on(job, lambda: stopping.is_set() or heartbeat.is_lost)
                self._store.jobs.succeed(
                    job.id, settings.owner, outcome, self._clock(), decide_study=self._decide_study
                )
        except AbandonedError:
            self.give_back()
        except LeaseLostError:
            log.warning("lease of the job lost, its results are dropped", extra=fields)
        except Exception as error:  # noqa: BLE001 - the one broad except of the worker: the job records it
            self._fail(job, error)
        else:
            log.info(
                "job succeeded",
                extra={
                    **fields,
                    **outcome.tags,
                    "n_results": len(outcome.results),
                    "seconds": round(time.monotonic() - started, 1),
                },
            )
        finally:
            self._job = None
            settings.report(None)
        return True

    def _extend(self, job: JobRow) -> bool:
        return self._store.jobs.heartbeat(job.id, self._settings.owner, self._clock(), self._settings.lease_s)

    def _work_on(self, job: JobRow, must_stop: Callable[[], bool]) -> Outcome:
        """Do everything between claim and commit, without changing the store."""
        if job.route is None:
            raise RuntimeError("a job without a route was claimed")
        instances = self._store.series.instances(job.series_instance_uid, generation=job.generation)
        if not instances:
            raise NoInstancesError(job.series_instance_uid)
        series = self._store.series.get(job.series_instance_uid)
        if len(instances) < series.n_sources_deleted:
            raise SourcesDeletedError(job.series_instance_uid, len(instances), series.n_sources_deleted)

        task = Task(job.id, "starting", None, self._clock())

        def on_stage(stage: str) -> None:
            nonlocal task
            if must_stop():
                raise AbandonedError(stage)
            log.debug("stage", extra={**_fields(job), "stage": stage})
            task = Task(job.id, stage, None, self._clock())
            self._settings.report(task)

        def on_share(share: float) -> None:
            if must_stop():
                raise AbandonedError(task.stage)
            self._settings.report(replace(task, share=round(share, 3)))

        self._settings.report(task)

        volumes = self._process(
            [
                StoredInstance(
                    row.sop_instance_uid,
                    partial(self._store.objects.open, row.digest, dataset_bytes=row.dataset_bytes),
                )
                for row in instances
            ],
            generation=job.generation,
            pipeline_digest=job.pipeline_digest,
            written_at=job.queued_at,
            on_stage=on_stage,
            on_share=on_share,
            predecessors=[
                Predecessor(row.sop_class_uid, row.sop_instance_uid, row.result_series_instance_uid)
                for row in self._store.jobs.predecessors(job)
            ],
            remarks=remarks_on_completeness(series),
            stacks=tuple(StackChoice(step) for step in job.route.stacks),
        )
        return outcome_of(volumes, job.route.deliver_to, series=series, kinds_by_peer=self._settings.kinds_by_peer)

    def _fail(self, job: JobRow, error: Exception) -> None:
        kind = classify(error)
        now = self._clock()
        is_defect = kind is ErrorKind.DEFECT
        code = error_code(error)
        retry_at = self._settings.retry.retry_at(kind, job.attempt_number, now)
        try:
            state = self._store.jobs.fail(
                job.id,
                self._settings.owner,
                code=code,
                message=f"{type(error).__name__}, a defect of the node; its traceback is kept with the job"
                if is_defect
                else str(error) or type(error).__name__,
                detail=discreet_traceback(error) if is_defect else None,
                retry_at=retry_at,
                now=now,
                decide_study=self._decide_study,
            )
        except LeaseLostError:
            log.warning("lease of the job lost, its failure is dropped", extra={**_fields(job), "code": code})
            return
        log.log(
            logging.ERROR if is_defect else logging.WARNING,
            "job failed",
            exc_info=error if is_defect else None,
            extra={**_fields(job), "code": code, "state": state.value, "retry_at": retry_at and retry_at.isoformat()},
        )


def _fields(job: JobRow) -> dict[str, object]:
    """Return the fields of every log line about a job."""
    return {
        "job_id": job.id,
        "series_instance_uid": job.series_instance_uid,
        "generation": job.generation,
        "attempt_number": job.attempt_number,
    }

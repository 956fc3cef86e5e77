"""What the node does at the moment: jobs, deliveries, peers, parts, disk and models."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dicom_node.page.work_words import way_out
from dicom_node.settings import Settings
from dicom_node.stage_times import N_TIMED, StageTime, stage_times
from dicom_node.store import DeliveryRow, JobRow, JobState, PartState, Store, Task, Trouble, part_troubles

N_SHOWN: Final = 50  # of jobs and of deliveries that failed or wait
UNFINISHED: Final = (JobState.RUNNING, JobState.QUEUED, JobState.WAITING)


@dataclass(frozen=True, slots=True)
class ShownJob:
    """A job that is not finished, or that needs a person."""

    job: JobRow
    task: Task | None  # what its worker does
    way_out: str  # what to do about its failure


@dataclass(frozen=True, slots=True)
class PeerState:
    """A peer, and how deliveries to it go."""

    name: str
    kind: str  # "dimse", "dicomweb"; empty for one that the settings no longer have
    address: str
    last_contact_at: datetime | None  # when it last took something
    last_error: str  # why the newest delivery that failed did, if none was taken since
    counts: Mapping[str, int]  # deliveries by state


@dataclass(frozen=True, slots=True)
class WorkState:
    """All that the page of work shows."""

    counts: Mapping[str, int]  # jobs by state
    oldest_queued_at: datetime | None
    running: tuple[ShownJob, ...]
    failed: tuple[ShownJob, ...]
    stages: tuple[StageTime, ...]
    deliveries: tuple[DeliveryRow, ...]  # dead or waiting
    delivery_counts: Mapping[str, int]
    peers: tuple[PeerState, ...]
    parts: tuple[PartState, ...]
    troubles: tuple[Trouble, ...]
    free_bytes: int
    total_bytes: int
    stored_bytes: int
    models: tuple[Mapping[str, str], ...]
    models_error: str


ReadModels = Callable[[], tuple[Mapping[str, str], ...]]
"""Returns role, name, version and digest of each model; raises if they cannot be described."""


def read_work(store: Store, settings: Settings, read_models: ReadModels) -> WorkState:
    """Return the present state of work."""
    figures, parts = store.figures(), store.parts(store.data_dir)
    running = store.jobs.list(states=UNFINISHED, limit=N_SHOWN)
    failed = store.jobs.list(states=(JobState.DEAD,), limit=N_SHOWN)
    deliveries = store.deliveries.list(states=(JobState.DEAD, JobState.WAITING), limit=N_SHOWN)
    totals: defaultdict[str, int] = defaultdict(int)
    for of_peer in figures.deliveries.values():
        for state, number in of_peer.items():
            totals[state] += number
    disk = shutil.disk_usage(store.data_dir)
    try:
        models, models_error = read_models(), ""
    except Exception as error:  # noqa: BLE001 - whatever keeps them from being described, the page shows it
        models, models_error = (), str(error)
    return WorkState(
        counts=figures.jobs,
        oldest_queued_at=figures.oldest_job_at,
        running=tuple(_shown(store, job) for job in sorted(running, key=_order)),
        failed=tuple(_shown(store, job) for job in failed),
        stages=stage_times(store.studies.newest_reports(limit=N_TIMED)),
        deliveries=deliveries,
        delivery_counts=dict(totals),
        peers=_peers(store, settings, figures.deliveries),
        parts=parts,
        troubles=tuple(part_troubles(parts, sorted({part.name for part in parts}))),
        free_bytes=store.objects.free_bytes(),
        total_bytes=disk.total,
        stored_bytes=figures.n_dataset_bytes,
        models=models,
        models_error=models_error,
    )


def _order(job: JobRow) -> tuple[int, int]:
    return UNFINISHED.index(job.state), job.id


def _shown(store: Store, job: JobRow) -> ShownJob:
    return ShownJob(job, store.task_of(job), way_out(job))


def _peers(store: Store, settings: Settings, counts: Mapping[str, Mapping[str, int]]) -> tuple[PeerState, ...]:
    """Return the peers of the settings and those to which something was to be sent before."""
    known: dict[str, Any] = {peer.name: peer for peer in settings.peers}
    shown = []
    for name in sorted({*known, *counts}):
        peer = known.get(name)
        taken = store.deliveries.list(states=(JobState.SUCCEEDED,), peer=name, limit=1)
        missed = store.deliveries.list(states=(JobState.DEAD, JobState.WAITING), peer=name, limit=1)
        is_worse = missed and (not taken or missed[0].id > taken[0].id)
        address = "" if peer is None else str(getattr(peer, "url", "") or f"{peer.ae_title}@{peer.host}:{peer.port}")
        shown.append(
            PeerState(
                name=name,
                kind="" if peer is None else peer.kind,
                address=address,
                last_contact_at=taken[0].ended_at if taken else None,
                last_error=(missed[0].error_message or "") if is_worse else "",
                counts=counts.get(name, {}),
            )
        )
    return tuple(shown)

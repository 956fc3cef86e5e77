"""Delete sources by policy: only finished, delivered and committed series, and only if the settings say so.

One plan says what goes and why the rest stays; the command ``retention`` shows it, the scheduler carries it out.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dicom_node.settings import RetentionSettings
from dicom_node.store import SourceState, Store, StudyState

log = logging.getLogger(__name__)


class Because(StrEnum):
    """Why sources are deleted."""

    AGE = "age"
    SIZE = "size"
    EMERGENCY = "emergency"  # little disk space is left


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to happen to the sources of one series: they go ``because`` of something, or ``stays`` says why not."""

    source: SourceState
    because: Because | None
    stays: str = ""


def plan_deletions(
    sources: Sequence[SourceState], policy: RetentionSettings, *, now: datetime, free_bytes: float
) -> list[Planned]:
    """Decide on every series that has sources; in order of the time at which they were closed, the oldest first.

    Parameters
    ----------
    sources
        All series with sources, those that were closed first in front.
    free_bytes
        Free space where the objects lie.
    """
    total_bytes = sum(source.n_dataset_bytes for source in sources)
    planned = []
    for source in sources:
        because = None
        needed = _needed_by(source, policy)
        if not needed:
            because = _because(source, policy, now=now, free_bytes=free_bytes, total_bytes=total_bytes)
            if because is not None:
                free_bytes += source.n_dataset_bytes
                total_bytes -= source.n_dataset_bytes
            else:
                needed = _not_yet(source, policy)
        planned.append(Planned(source, because, "" if because is not None else needed))
    return planned


def delete_sources(
    store: Store, policy: RetentionSettings, *, now: datetime, committing_peers: Collection[str] = ()
) -> int:
    """Delete the sources that the policy lets go, and return the number of series.

    The node's own objects and all index rows always stay. What has changed since it was planned stays as well.
    """
    if not _is_any(policy):
        return 0
    deleted = []
    for planned in plan_deletions(
        store.retention.survey(committing_peers), policy, now=now, free_bytes=store.objects.free_object_bytes()
    ):
        if planned.because is None:
            continue
        if not store.retention.delete_sources(
            planned.source,
            now,
            because=planned.because.value,
            committing_peers=committing_peers,
            wait_for_export=policy.wait_for_export,
        ):
            continue
        deleted.append(planned)
        fields = {
            "series_instance_uid": planned.source.series_instance_uid,
            "n_instances": planned.source.n_instances,
            "because": planned.because.value,
        }
        log.info("sources deleted", extra=fields)
    return len(deleted)


def relieve_disk(
    store: Store, policy: RetentionSettings, *, now: datetime, committing_peers: Collection[str] = ()
) -> int:
    """Delete the oldest sources that nothing needs while less disk space is free than ``emergency_free_bytes``."""
    if policy.emergency_free_bytes is None or store.objects.free_object_bytes() >= policy.emergency_free_bytes:
        return 0
    n_series = delete_sources(store, policy, now=now, committing_peers=committing_peers)
    free_bytes = store.objects.free_object_bytes()
    enough = free_bytes >= policy.emergency_free_bytes
    log.log(
        logging.WARNING if enough else logging.ERROR,
        "disk nearly full: sources deleted before their time" if n_series else "disk nearly full: no sources may go",
        extra={"n_series": n_series, "free_bytes": free_bytes},
    )
    return n_series


def _is_any(policy: RetentionSettings) -> bool:
    return any(
        value is not None for value in (policy.sources_days, policy.max_source_bytes, policy.emergency_free_bytes)
    )


def _needed_by(source: SourceState, policy: RetentionSettings) -> str:
    """Return what the sources are needed for; empty if for nothing. No policy overrides it."""
    return "; ".join(_needs(source, policy))


def _needs(source: SourceState, policy: RetentionSettings) -> Iterator[str]:
    if source.completed_at is None:
        yield "still receiving"
    if source.has_open_jobs:
        yield "a job is not finished, or needs a person"
    if source.has_open_deliveries:
        yield "not delivered everywhere, or a delivery needs a person"
    if source.is_uncommitted:
        yield "a peer has not committed to all that it accepted"
    if policy.wait_for_export and not source.is_exported and source.study_state is not StudyState.BLOCKED:
        yield "the study has not been exported"


def _because(
    source: SourceState, policy: RetentionSettings, *, now: datetime, free_bytes: float, total_bytes: int
) -> Because | None:
    if source.completed_at is None:
        return None
    if policy.sources_days is not None and source.completed_at < now - timedelta(days=policy.sources_days):
        return Because.AGE
    if policy.max_source_bytes is not None and total_bytes > policy.max_source_bytes:
        return Because.SIZE
    if policy.emergency_free_bytes is not None and free_bytes < policy.emergency_free_bytes:
        return Because.EMERGENCY
    return None


def _not_yet(source: SourceState, policy: RetentionSettings) -> str:
    if policy.sources_days is not None and source.completed_at is not None:
        due_at = source.completed_at + timedelta(days=policy.sources_days)
        return f"goes on {due_at:%Y-%m-%d} (retention.sources_days)"
    return "nothing asks for its deletion" if not _is_any(policy) else "there is room for it"

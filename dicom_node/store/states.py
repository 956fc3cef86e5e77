"""States of series, studies, jobs and deliveries, and the one table of allowed job transitions."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from dicom_node.store.errors import IllegalTransitionError


class Kept(StrEnum):
    """Outcome for an instance that was handed to the inbox; in each case its bytes are on disk."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # same SOP Instance UID, same bytes: nothing changed
    CONFLICT = "conflict"  # same SOP Instance UID, other bytes: the first stays, this one is recorded in `conflicts`


class ConflictChoice(StrEnum):
    """How a conflict was settled."""

    KEPT = "kept"  # the instance stays what it was
    ADOPTED = "adopted"  # the other content is the instance now
    SAME = "same"  # the node found the same content in another encoding


class Origin(StrEnum):
    """Who made an instance."""

    RECEIVED = "received"
    NODE = "node"


class SeriesState(StrEnum):
    """State of a series; a later instance returns any state to ``receiving``, in the next generation."""

    RECEIVING = "receiving"
    COMPLETE = "complete"  # its jobs are queued
    SKIPPED = "skipped"  # no model applies to it
    DELETED = "deleted"  # by retention; the row stays as history


class StudyState(StrEnum):
    """Whether a study may leave the node; only ``cleared`` ones may."""

    OPEN = "open"  # something arrived that is not judged yet
    BLOCKED = "blocked"
    REVIEW = "review"
    CLEARED = "cleared"


class ExportState(StrEnum):
    """State of a study at a target of an export."""

    SENDING = "sending"  # some or all of it may be there
    PUBLISHED = "published"  # all of it is there
    WITHDRAWN = "withdrawn"  # it should no longer be there; nobody recalled it


class JobState(StrEnum):
    """State of a job, and of a delivery."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # failed, tried again at `retry_at`
    SUCCEEDED = "succeeded"
    DEAD = "dead"  # failed for good, until a person retries it
    SUPERSEDED = "superseded"  # a later generation of its series took its place
    CANCELLED = "cancelled"


class CommitmentState(StrEnum):
    """What a peer says about an object that it accepted (storage commitment, PS3.4 annex J)."""

    DUE = "due"  # to be asked, or asked again
    ASKED = "asked"
    COMMITTED = "committed"
    FAILED = "failed"  # the peer does not commit; asked again, a limited number of times
    NOT_OFFERED = "not-offered"  # the peer does not accept the presentation context


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.SUPERSEDED}),
        JobState.RUNNING: frozenset(
            {
                JobState.SUCCEEDED,
                JobState.WAITING,
                JobState.DEAD,
                JobState.QUEUED,  # released at shutdown, or its lease expired
                JobState.CANCELLED,
                JobState.SUPERSEDED,
            }
        ),
        JobState.WAITING: frozenset({JobState.RUNNING, JobState.QUEUED, JobState.CANCELLED, JobState.SUPERSEDED}),
        JobState.DEAD: frozenset({JobState.QUEUED, JobState.SUPERSEDED}),
        JobState.CANCELLED: frozenset({JobState.QUEUED, JobState.SUPERSEDED}),
        JobState.SUCCEEDED: frozenset(),
        JobState.SUPERSEDED: frozenset(),
    }
)

DELIVERY_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {**TRANSITIONS, JobState.DEAD: TRANSITIONS[JobState.DEAD] | {JobState.CANCELLED}}
)
"""Those of a delivery: a person may decide that a peer need not have an object after all."""


def check_transition(
    kind: str,
    row_id: int,
    state: JobState,
    wanted: JobState,
    *,
    ways: Mapping[JobState, frozenset[JobState]] = TRANSITIONS,
) -> None:
    """Raise `IllegalTransitionError` unless ``state`` may become ``wanted``."""
    if wanted not in ways[state]:
        raise IllegalTransitionError(kind, row_id, state.value, wanted.value, tuple(sorted(ways[state])))

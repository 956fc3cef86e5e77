"""Deliveries, what peers say about them, and the sources that wait for them, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dicom_node.store.states import CommitmentState, JobState, StudyState

SOURCE: Final = "source"
"""Kind of a delivery of a received instance that is forwarded."""
MOVE: Final = "move"
"""Kind of a delivery that a C-MOVE asks for."""


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """The delivery of one object to one peer: of a result, of a received instance that is forwarded, or by a C-MOVE.

    The result of a study has no job.
    """

    id: int
    result_id: int | None  # None: a received instance, or any instance that a C-MOVE asks for
    job_id: int | None
    kind: str  # of the result: seg, sr or kos; else `SOURCE` or `MOVE`
    peer: str
    state: JobState
    attempt_number: int
    owner: str | None
    lease_expires_at: datetime | None
    retry_at: datetime | None
    error_code: str | None
    error_message: str | None
    study_instance_uid: str
    series_instance_uid: str  # of the object itself
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    digest: str
    created_at: datetime
    ended_at: datetime | None
    replaced_by_id: int | None  # the delivery that sends the same object again
    move_originator: str | None  # AE title that asks for it by C-MOVE
    move_message_id: int | None
    commitment: CommitmentState | None  # None: the peer is not asked for storage commitment
    commitment_reason: str | None
    n_sent: int | None  # of its series, when the peer was asked how many it has
    n_found: int | None  # what the peer said


@dataclass(frozen=True, slots=True)
class DeliveryCheckRow:
    """How many instances of a series a peer has accepted, and how many it lists."""

    peer: str
    study_instance_uid: str
    series_instance_uid: str
    n_sent: int | None
    n_found: int | None  # None: not counted, ``reason`` says why
    n_checks: int
    reason: str
    checked_at: datetime | None
    due_at: datetime | None  # None: not counted again


@dataclass(frozen=True, slots=True)
class PeerContextRow:
    """Whether a peer accepts a SOP class in a transfer syntax."""

    peer: str
    sop_class_uid: str
    transfer_syntax_uid: str
    is_accepted: bool
    noted_at: datetime


@dataclass(frozen=True, slots=True)
class SourceState:
    """A received series with its sources, and what still needs them."""

    series_instance_uid: str
    study_instance_uid: str
    study_state: StudyState
    generation: int
    completed_at: datetime | None  # None: still receiving
    n_instances: int
    n_dataset_bytes: int
    has_open_jobs: bool  # unfinished, or waiting for a person
    has_open_deliveries: bool
    is_uncommitted: bool  # a peer has not committed to all that it accepted of the series and of its results
    is_exported: bool  # the study, with the evidence of now

"""Rows of the index as values; all datetimes are aware UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dicom_node.store.states import ConflictChoice, Origin, SeriesState, StudyState


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the sender said about an instance before its dataset, and when."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    association_id: str
    received_at: datetime
    study_instance_uid: str | None = None  # that the instance is said to belong to


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance in the index; its bytes are ``objects.open(digest)``."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    digest: str  # SHA-256 of the dataset's bytes, hexadecimal
    dataset_bytes: int
    origin: Origin
    generation: int  # generation of the series in which it arrived
    instance_number: int | None
    calling_ae_title: str
    association_id: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ConflictRow:
    """Bytes that were acknowledged but not stored as the instance, because the UID was already taken by other bytes."""

    id: int
    sop_instance_uid: str
    reason: str  # "other-bytes", "series-in-other-study"
    digest: str
    stored_digest: str | None  # of the content that is the instance
    series_instance_uid: str | None  # in doubt by it
    transfer_syntax_uid: str
    calling_ae_title: str
    association_id: str
    received_at: datetime
    settled_at: datetime | None
    choice: ConflictChoice | None  # how it was settled
    differences: tuple[str, ...] | None  # names of attributes that differ; None: not compared yet


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series as the index has it."""

    series_instance_uid: str
    study_instance_uid: str
    modality: str
    origin: Origin
    state: SeriesState
    generation: int  # counts from 1
    n_instances: int
    n_dataset_bytes: int
    first_arrival_at: datetime
    last_arrival_at: datetime
    completed_at: datetime | None
    skip_reason: str | None
    forced_at: datetime | None  # when a person declared it complete; empty once it is closed
    waits_because: str | None  # evidence that more is to come, while it is receiving
    complete_because: str | None
    is_doubted: bool | None  # closed although nothing showed that it is complete
    pipeline_digest: str | None  # of the pipeline for which it was closed
    n_sources_deleted: int  # size of the largest generation that was processed and then deleted


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study as the index has it."""

    study_instance_uid: str
    state: StudyState
    first_arrival_at: datetime
    last_arrival_at: datetime
    reason: str | None  # of the state, in the words of the rules
    judged_at: datetime | None
    gate_digest: str | None  # of the rules and the pipeline by which it was judged
    evidence_fingerprint: str | None  # of the evidence that the state is based on

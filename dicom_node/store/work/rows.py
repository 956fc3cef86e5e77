"""Jobs, results, deliveries, verdicts and audit as values; all datetimes are aware UTC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from dicom_node.store.states import ExportState, JobState, SeriesState, StudyState


@dataclass(frozen=True, slots=True)
class Route:
    """How to process a series: decided once, when it is closed, and kept with its job."""

    rule_name: str
    stacks: tuple[str, ...]  # steps that select stacks of the series, applied one after the other
    deliver_to: tuple[str, ...]  # peer names; each result goes to each


@dataclass(frozen=True, slots=True)
class Skip:
    """The decision that a series needs no job, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Closing:
    """What is decided when a series is closed: why it counts as complete, and how to process it."""

    because: str
    is_doubted: bool  # nothing shows that the series is complete, or something shows that it is not
    pipeline_digest: str  # of the models and rules by which it was decided
    decision: Route | Skip
    forward_to: tuple[str, ...] = ()  # peer names; each received instance goes to each, once


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in the index; its results carry ``queued_at`` as their time, so that a retry writes the same bytes."""

    id: int
    series_instance_uid: str
    study_instance_uid: str
    generation: int
    pipeline_digest: str
    route: Route | None  # None: queued by a version that did not keep the route; the series starts over
    state: JobState
    attempt_number: int  # 0 before the first claim
    owner: str | None
    lease_expires_at: datetime | None
    retry_at: datetime | None
    error_code: str | None
    error_message: str | None
    error_detail: str | None  # traceback, if the error is a defect of the node
    queued_at: datetime
    started_at: datetime | None  # of the latest attempt
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobEventRow:
    """One transition of a job."""

    id: int
    job_id: int
    event: str  # "queued", "claimed", "failed", "lease-expired", "released", "retried", ...
    from_state: JobState | None
    to_state: JobState
    attempt_number: int
    owner: str | None
    detail: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class NewResult:
    """An object that the node wrote and that is not stored yet."""

    kind: str  # "seg", "sr", "kos"
    stack_number: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    encoded_dataset: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewVerdict:
    """What a job found in one stack."""

    stack_number: int
    verdict: str  # "defaced", "face_present", "indeterminate", "not_applicable"
    probability: float
    reasons: tuple[str, ...]
    remark_codes: frozenset[str]  # what the gate goes by; the texts are in the report
    report: Mapping[str, Any]  # volumes, timings, models: JSON, for people


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a successful job produced."""

    results: tuple[NewResult, ...] = ()
    verdicts: tuple[NewVerdict, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)  # of the series
    deliver_to: tuple[str, ...] = ()  # peer names
    kinds_by_peer: Mapping[str, frozenset[str]] = field(default_factory=dict)  # a peer without an entry takes all

    def peers_of(self, result: NewResult) -> tuple[str, ...]:
        """Return the names of the peers to which a result is sent, each once."""
        return tuple(
            peer
            for peer in dict.fromkeys(self.deliver_to)
            if peer not in self.kinds_by_peer or result.kind in self.kinds_by_peer[peer]
        )


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A result in the index."""

    id: int
    job_id: int
    kind: str
    stack_number: int
    series_instance_uid: str  # of the source
    generation: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    digest: str
    created_at: datetime
    result_series_instance_uid: str  # of the object itself
    superseded_by_job_id: int | None


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """The verdict on one stack of a series, with the generation and the pipeline that it is from."""

    study_instance_uid: str
    series_instance_uid: str
    generation: int
    pipeline_digest: str
    stack_number: int
    verdict: str
    probability: float
    reasons: tuple[str, ...]
    report: Mapping[str, Any]
    found_at: datetime


@dataclass(frozen=True, slots=True)
class TagRow:
    """A name and a value on a study or on one of its series."""

    study_instance_uid: str
    series_instance_uid: str | None  # None: the study itself
    name: str
    value: str
    set_by: str
    set_at: datetime


@dataclass(frozen=True, slots=True)
class SeriesEvidence:
    """Evidence on one received series of a study, for deciding the study's state."""

    series_instance_uid: str
    modality: str
    state: SeriesState
    skip_reason: str | None
    job_states: tuple[JobState, ...]  # of the current generation
    verdicts: tuple[str, ...]  # of the current generation
    remark_codes: frozenset[str] = frozenset()  # of the reports of the current generation
    generation: int = 1
    pipeline_digests: frozenset[str] = frozenset()  # of the pipelines that the verdicts are from
    n_conflicts: int = 0  # conflicting contents between which nobody has chosen yet


@dataclass(frozen=True, slots=True)
class StudyEvidence:
    """Everything that a study's state depends on, and a fingerprint of it.

    Attributes
    ----------
    fingerprint
        SHA-256 over series, generations, instances, verdicts, remarks and conflicts: a decision on a study
        covers exactly this evidence, and nothing that arrived later.
    n_patients
        Different Patient IDs of the received instances; more than one is a mistake somewhere.
    """

    series: tuple[SeriesEvidence, ...]
    fingerprint: str
    n_patients: int = 1


@dataclass(frozen=True, slots=True)
class StudyJudgement:
    """What the rules say about a study, and the digest of those rules."""

    state: StudyState
    reason: str
    gate_digest: str


DecideStudy = Callable[[StudyEvidence], StudyJudgement]
"""Rule without side effects from a study's evidence to its state; called in the transaction that changes it."""


class DecisionKind(StrEnum):
    """Kind of a person's decision on a study."""

    RELEASE = "release"
    HOLD = "hold"
    WITHDRAW = "withdraw"  # the decision before it no longer counts, and the rules' word stands


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A person's decision on a study; rows are only ever added."""

    id: int
    study_instance_uid: str
    kind: DecisionKind
    reason: str
    decided_by: str
    evidence_fingerprint: str  # of the evidence at that time
    decided_at: datetime


DATASET_TARGET: Final = "dataset:"


@dataclass(frozen=True, slots=True)
class NewExport:
    """A study that is about to be published."""

    study_instance_uid: str
    copy_study_instance_uid: str  # by which those who have the copy know it
    project: str
    key_fingerprint: str
    target: str  # "folder:PATH", "peer:NAME" or "dataset:PATH"
    evidence_fingerprint: str
    gate_digest: str
    content_digest: str  # over the SHA-256 of all copies
    n_instances: int  # of a dataset: volumes

    @property
    def is_dataset(self) -> bool:
        """Whether volumes of the study went into a dataset, instead of copies of its objects to a folder or a peer."""
        return self.target.startswith(DATASET_TARGET)


@dataclass(frozen=True, slots=True)
class ExportRow(NewExport):
    """A study that was published somewhere, is being sent there, or was withdrawn."""

    id: int
    state: ExportState
    began_at: datetime
    published_at: datetime | None
    withdrawn_at: datetime | None
    withdrawn_because: str | None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Entry of the audit trail: who did what, when."""

    id: int
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    occurred_at: datetime

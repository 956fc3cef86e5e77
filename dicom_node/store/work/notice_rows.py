"""Announced states of studies, and notices of them to targets, as values; all datetimes are aware UTC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dicom_node.store.index.rows import StudyRow
from dicom_node.store.states import JobState
from dicom_node.store.work.rows import DecisionRow, StudyEvidence


@dataclass(frozen=True, slots=True)
class StudyStanding:
    """State of a study after rules and decisions, without names and IDs of persons.

    Attributes
    ----------
    decided_by
        ``rules`` or ``person``; None while the study is open.
    standings
        Number of series for each standing; empty if the state does not depend on them (open, held).
    evidence_fingerprint
        Of the evidence that the state is based on; None if it does not depend on it.
    gate_digest
        Of the rules and the pipeline by which it was found.
    """

    state: str
    decided_by: str | None
    standings: Mapping[str, int]
    evidence_fingerprint: str | None
    gate_digest: str


DescribeStudy = Callable[[StudyRow, DecisionRow | None, Callable[[], StudyEvidence]], StudyStanding]
"""Function without side effects from a study, its newest decision and its evidence to its standing."""


@dataclass(frozen=True, slots=True)
class AnnouncementRow:
    """A state of a study since a moment; rows are only ever added."""

    study_instance_uid: str
    version: int  # grows with every row of a study, also if the database was lost in between
    state: str
    decided_by: str | None
    standings: Mapping[str, int]
    evidence_fingerprint: str | None
    gate_digest: str
    since: datetime


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """What one target is to be told about one study, and what it was told last."""

    id: int
    study_instance_uid: str
    target: str
    version: int  # of the newest announcement
    told_version: int | None
    told_state: str | None
    told_at: datetime | None
    state: JobState  # succeeded: the target knows the newest announcement
    attempt_number: int
    owner: str | None
    lease_expires_at: datetime | None
    retry_at: datetime | None
    error_code: str | None
    error_message: str | None

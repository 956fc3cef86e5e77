"""Whether a study may leave now, and the same question again at the moment of publishing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.export.errors import KeyFileError
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.selection import GateTerms, seen_series
from dicom_node.export.targets import MayLeave
from dicom_node.gate.decisions import GateState, Standpoint, standpoint_of
from dicom_node.store import DecisionRow, SeriesEvidence, SeriesState, Store, StudyRow


class Outcome(StrEnum):
    """Outcome for a study."""

    EXPORTED = "exported"
    NOT_CLEARED = "not-cleared"
    UNKNOWN = "unknown-study"
    SOURCES_DELETED = "sources-deleted"
    SOURCES_LOST = "sources-lost"  # an object is missing or damaged in the store
    NOTHING_TO_EXPORT = "nothing-to-export"
    TWO_PATIENTS = "two-patients"
    QUARANTINED = "quarantined"
    NO_SPACE = "no-space"
    CHANGED = "changed-meanwhile"
    NOT_ACCEPTED = "not-accepted"  # a peer has not taken every copy without a warning
    WITHDRAWN = "withdrawn"  # it changed while a peer already had some or all of it
    WOULD_BE_EXPORTED = "would-be-exported"  # a dry run


@dataclass(frozen=True, slots=True)
class Ready:
    """A study that may leave: the evidence for that, and the series that leave with it."""

    fingerprint: str
    seen: Sequence[SeriesEvidence]
    is_released: bool


@dataclass(frozen=True, slots=True)
class Stays:
    """Why a study stays."""

    outcome: Outcome
    reason: str


def readiness(store: Store, study_instance_uid: str, found: Standpoint | None, terms: GateTerms) -> Ready | Stays:
    """Return the series that leave with a study, or why the study stays; ``found`` is None if it is unknown."""
    if found is None:
        return Stays(Outcome.UNKNOWN, "the node has no such study")
    if found.state is not GateState.CLEARED:
        return Stays(Outcome.NOT_CLEARED, _why_not(found))
    evidence = store.studies.evidence(study_instance_uid)
    if evidence.fingerprint != found.study.evidence_fingerprint:
        return Stays(Outcome.CHANGED, "something arrived after the study was judged; it will be judged again")
    seen = seen_series(evidence.series, terms)
    if any(one.state is SeriesState.DELETED for one in seen):
        return Stays(Outcome.SOURCES_DELETED, "retention has deleted the instances of a series; send them again")
    if not seen:
        return Stays(Outcome.NOTHING_TO_EXPORT, "no model has seen any of its series, and no others leave")
    return Ready(evidence.fingerprint, seen, found.is_released)


def still_cleared(terms: GateTerms, fingerprint: str) -> MayLeave:
    """Return the question whether a study may leave on this evidence, for the store to ask under its write lock."""

    def may_leave(study: StudyRow, known: str, decision: DecisionRow | None) -> bool:
        standpoint = standpoint_of(study, decision, terms.digest, terms.rules)
        return known == fingerprint and standpoint.state is GateState.CLEARED

    return may_leave


def check_key(store: Store, pseudonyms: Pseudonyms) -> None:
    """Raise `KeyFileError` if the project was exported with another key before, wherever to."""
    if store.exports.keys_of(pseudonyms.project) - {pseudonyms.fingerprint()}:
        raise KeyFileError(
            "is not the one with which this project was exported before",
            "use that key, or name another project: with two keys a patient would be two people",
        )


def _why_not(found: Standpoint) -> str:
    """Return why a study may not leave, without the name of a person who decided."""
    if found.state is GateState.HELD:
        return "held: a person holds it"
    return f"{found.state}: {found.reason if found.state is GateState.OPEN else found.study.reason}"

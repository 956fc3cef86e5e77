"""What the series of a study mean for the study: blocked, review or cleared, and why. Doubt closes the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.pipeline.rules import StudyRules
from dicom_node.store import DecideStudy, JobState, SeriesEvidence, SeriesState, StudyState


class Standing(StrEnum):
    """Where one series stands; of several stacks the one that asks for the most care counts."""

    FACE_PRESENT = "face_present"
    FAILED = "failed"
    UNFINISHED = "unfinished"
    INDETERMINATE = "indeterminate"
    PARTLY_SEEN = "partly_seen"  # fine in what was looked at; there is more of the series, or may be
    DEFACED = "defaced"
    NOT_APPLICABLE = "not_applicable"
    SKIPPED = "skipped"  # no model saw it: it neither clears a study nor leaves the house with it


# Remarks of the report on what no model saw. Repeats show the same field of view again, in which there is no face or a
# face that may have been left in one of them; other stacks, and slices that did not come, may show another place.
ELSEWHERE_IS_UNSEEN = frozenset({"stacks-not-run", "completeness-doubted"})
PART_IS_UNSEEN = {
    Standing.DEFACED: ELSEWHERE_IS_UNSEEN | {"repeats-not-run"},
    Standing.NOT_APPLICABLE: ELSEWHERE_IS_UNSEEN,
}


@dataclass(frozen=True, slots=True)
class StudyVerdict:
    """State of a study with its reason."""

    state: StudyState
    reason: str


def standing_of(evidence: SeriesEvidence) -> Standing:
    """Where a series stands; whatever is unknown or contradictory counts as failed or unfinished, never as fine."""
    if evidence.state is SeriesState.SKIPPED:
        return Standing.SKIPPED
    if evidence.state is SeriesState.RECEIVING:
        return Standing.UNFINISHED
    states = [state for state in evidence.job_states if state is not JobState.SUPERSEDED]
    if any(state in (JobState.DEAD, JobState.CANCELLED) for state in states):
        return Standing.FAILED
    if not states or any(state is not JobState.SUCCEEDED for state in states):
        return Standing.UNFINISHED
    verdicts = set(evidence.verdicts)
    for standing in (Standing.FACE_PRESENT, Standing.INDETERMINATE, Standing.DEFACED, Standing.NOT_APPLICABLE):
        if standing.value in verdicts:
            if not verdicts <= set(Standing):
                return Standing.FAILED
            is_partly_seen = PART_IS_UNSEEN.get(standing, frozenset()) & evidence.remark_codes
            return Standing.PARTLY_SEEN if is_partly_seen else standing
    return Standing.FAILED  # a job succeeded and left no verdict that this version knows


def judge_study(standings: Sequence[Standing], rules: StudyRules) -> StudyVerdict:
    """State of a study: the strictest answer that any of its series asks for.

    A study is cleared only when a model has seen at least one series, none is in doubt, and either one of them is
    defaced or the rules let studies without a face go.
    """
    asked = {
        Standing.FACE_PRESENT: StudyState(rules.face_present),
        Standing.FAILED: StudyState(rules.failed),
        Standing.UNFINISHED: StudyState(rules.unfinished),
        Standing.INDETERMINATE: StudyState(rules.indeterminate),
        Standing.PARTLY_SEEN: StudyState(rules.partly_seen),
    }
    for strictest in (StudyState.BLOCKED, StudyState.REVIEW):
        reasons = [
            _phrase(standings, standing)
            for standing, state in asked.items()
            if state is strictest and standing in standings
        ]
        if reasons:
            return StudyVerdict(strictest, "; ".join(reasons))
    if Standing.DEFACED in standings:
        return StudyVerdict(StudyState.CLEARED, _phrase(standings, Standing.DEFACED))
    if Standing.NOT_APPLICABLE in standings:
        phrase = _phrase(standings, Standing.NOT_APPLICABLE)
        return StudyVerdict(StudyState(rules.only_not_applicable), f"no face field of view: {phrase}")
    return StudyVerdict(StudyState.REVIEW, "no model has seen any series of it")


def study_decision(rules: StudyRules) -> DecideStudy:
    """The rules as the function that the store calls wherever the evidence of a study changes."""

    def decide(evidence: tuple[SeriesEvidence, ...]) -> StudyState:
        return judge_study([standing_of(series) for series in evidence], rules).state

    return decide


def _phrase(standings: Sequence[Standing], standing: Standing) -> str:
    return f"{standings.count(standing)} of {len(standings)} series {standing.value.replace('_', ' ')}"

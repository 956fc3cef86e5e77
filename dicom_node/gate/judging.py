"""What the series of a study mean for the study: blocked, review or cleared, and why. Doubt closes the gate."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.gate.rules import StudyRules, gate_digest
from dicom_node.gate.severity import VERDICTS, Standing, most_severe
from dicom_node.store import (
    DecideStudy,
    JobState,
    SeriesEvidence,
    SeriesState,
    StudyEvidence,
    StudyJudgement,
    StudyState,
)
from inference.series.remarks import RemarkCode

# Remarks of the report on what no model saw. Repeats show the same field of view again, in which there is no face or a
# face that may have been left in one of them, and so do single planes within it. Other stacks, planes and pictures, and
# slices that did not come, may show another place.
ELSEWHERE_IS_UNSEEN = frozenset(
    {
        RemarkCode.STACKS_NOT_RUN,
        RemarkCode.COMPLETENESS_DOUBTED,
        RemarkCode.PLANES_NOT_RUN,
        RemarkCode.PICTURES_LEFT_OUT,
    }
)
PART_IS_UNSEEN = {
    Standing.DEFACED: ELSEWHERE_IS_UNSEEN | {RemarkCode.REPEATS_NOT_RUN, RemarkCode.PLANES_WITHIN_NOT_RUN},
    Standing.NOT_APPLICABLE: ELSEWHERE_IS_UNSEEN,
}


def standing_of(evidence: SeriesEvidence, pipeline_digest: str | None = None) -> Standing:
    """Return the standing of a series; anything unknown or contradictory counts as failed or unfinished, never as fine.

    Parameters
    ----------
    pipeline_digest
        Digest of the node's current models and rules; None if unknown, and then not compared.
    """
    was_skipped = evidence.state is SeriesState.DELETED and evidence.skip_reason is not None
    if evidence.state is SeriesState.SKIPPED or was_skipped:
        return Standing.CONFLICT if evidence.n_conflicts else Standing.SKIPPED
    if evidence.state is SeriesState.RECEIVING:
        return Standing.UNFINISHED
    states = [state for state in evidence.job_states if state is not JobState.SUPERSEDED]
    if any(state in (JobState.DEAD, JobState.CANCELLED) for state in states):
        return Standing.FAILED
    if not states or any(state is not JobState.SUCCEEDED for state in states):
        return Standing.UNFINISHED
    if not evidence.verdicts or not set(evidence.verdicts) <= VERDICTS:
        return Standing.FAILED  # a job succeeded and left no verdict, or one that this version does not know
    return _doubted(most_severe({Standing(verdict) for verdict in evidence.verdicts}), evidence, pipeline_digest)


def _doubted(standing: Standing, evidence: SeriesEvidence, pipeline_digest: str | None) -> Standing:
    """Return the standing of a verdict, or a doubtful one if anything is in doubt; a face present stays that."""
    if standing is Standing.FACE_PRESENT:
        return standing
    if evidence.n_conflicts:
        return Standing.CONFLICT
    if pipeline_digest is not None and not evidence.pipeline_digests <= {pipeline_digest}:
        return Standing.EARLIER_PIPELINE
    is_partly_seen = PART_IS_UNSEEN.get(standing, frozenset()) & evidence.remark_codes
    return Standing.PARTLY_SEEN if is_partly_seen else standing


def judge_study(standings: Sequence[Standing], rules: StudyRules) -> tuple[StudyState, str]:
    """Return the state of a study and its reason: the strictest that any of its series requires.

    A study is cleared only when a model has seen at least one series, none is in doubt, and either one of them is
    defaced or the rules let studies without a face leave.
    """
    asked = {
        Standing.FACE_PRESENT: rules.face_present,
        Standing.FAILED: rules.failed,
        Standing.UNFINISHED: rules.unfinished,
        Standing.CONFLICT: rules.conflict,
        Standing.EARLIER_PIPELINE: rules.earlier_pipeline,
        Standing.INDETERMINATE: rules.indeterminate,
        Standing.PARTLY_SEEN: rules.partly_seen,
    }
    for strictest in (StudyState.BLOCKED, StudyState.REVIEW):
        reasons = [
            _phrase(standings, standing)
            for standing, state in asked.items()
            if state == strictest.value and standing in standings
        ]
        if reasons:
            return strictest, "; ".join(reasons)
    if Standing.DEFACED in standings:
        return StudyState.CLEARED, _phrase(standings, Standing.DEFACED)
    if Standing.NOT_APPLICABLE in standings:
        phrase = _phrase(standings, Standing.NOT_APPLICABLE)
        return StudyState(rules.only_not_applicable), f"no face field of view: {phrase}"
    return StudyState.REVIEW, "no model has seen any series of it"


def study_decision(rules: StudyRules, pipeline_digest: str | None = None) -> DecideStudy:
    """Return the rules as the function that the store calls whenever the evidence of a study changes."""
    compared = None if rules.earlier_pipeline == "accepted" else pipeline_digest
    digest = gate_digest(rules, pipeline_digest)

    def decide(evidence: StudyEvidence) -> StudyJudgement:
        state, reason = judge_study([standing_of(series, compared) for series in evidence.series], rules)
        if evidence.n_patients > 1:  # one of them is wrong, so a clearance may be another patient's
            state = StudyState.REVIEW if state is StudyState.CLEARED else state
            reason = f"{evidence.n_patients} different Patient IDs in it; {reason}"
        return StudyJudgement(state, reason, digest)

    return decide


def _phrase(standings: Sequence[Standing], standing: Standing) -> str:
    return f"{standings.count(standing)} of {len(standings)} series {standing.value.replace('_', ' ')}"

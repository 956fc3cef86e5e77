"""What others are told about a study: its state after rules and decisions, without anything that names a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dicom_node.gate.decisions import GateState, standpoint_of
from dicom_node.gate.judging import standing_of
from dicom_node.gate.rules import StudyRules, gate_digest
from dicom_node.store import DecisionRow, DescribeStudy, StudyEvidence, StudyRow, StudyStanding

RULES, PERSON = "rules", "person"
UNKNOWN_DIGEST = ""


def study_standing(rules: StudyRules, pipeline_digest: str | None) -> DescribeStudy:
    """Return the function that describes a study to others.

    Parameters
    ----------
    pipeline_digest
        Digest of the node's current models and rules; None if the models cannot be described. Whatever is not held is
        open then, since a verdict may be outdated.
    """
    digest = UNKNOWN_DIGEST if pipeline_digest is None else gate_digest(rules, pipeline_digest)
    compared = None if rules.earlier_pipeline == "accepted" else pipeline_digest

    def describe(study: StudyRow, decision: DecisionRow | None, evidence: Callable[[], StudyEvidence]) -> StudyStanding:
        found = standpoint_of(study, decision, digest, rules)
        if found.state is GateState.OPEN:
            return StudyStanding(found.state.value, None, {}, None, digest)
        if found.state is GateState.HELD:
            return StudyStanding(found.state.value, PERSON, {}, None, digest)
        standings = Counter(standing_of(series, compared).value for series in evidence().series)
        decided_by = PERSON if found.is_released else RULES
        return StudyStanding(found.state.value, decided_by, dict(standings), study.evidence_fingerprint, digest)

    return describe

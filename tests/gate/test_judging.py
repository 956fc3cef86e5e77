"""What the series of a study mean for the study."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.gate.judging import judge_study, standing_of, study_decision
from dicom_node.gate.rules import StudyRules
from dicom_node.gate.severity import Standing
from dicom_node.store import JobState, SeriesEvidence, SeriesState, StudyEvidence, StudyState

DEFAULT = StudyRules()
BODIES_MAY_GO = StudyRules(only_not_applicable="cleared")


def evidence(
    state: SeriesState = SeriesState.COMPLETE,
    job_states: tuple[JobState, ...] = (JobState.SUCCEEDED,),
    verdicts: tuple[str, ...] = ("defaced",),
    remark_codes: frozenset[str] = frozenset(),
) -> SeriesEvidence:
    return SeriesEvidence("2.25.1", "MR", state, None, job_states, verdicts, remark_codes)


@pytest.mark.parametrize(
    ("standings", "rules", "expected"),
    [
        ([Standing.DEFACED], DEFAULT, StudyState.CLEARED),
        ([Standing.DEFACED, Standing.NOT_APPLICABLE, Standing.SKIPPED], DEFAULT, StudyState.CLEARED),
        ([Standing.DEFACED, Standing.FACE_PRESENT], DEFAULT, StudyState.BLOCKED),
        ([Standing.FACE_PRESENT, Standing.FAILED], DEFAULT, StudyState.BLOCKED),
        ([Standing.DEFACED, Standing.FAILED], DEFAULT, StudyState.REVIEW),
        ([Standing.DEFACED, Standing.UNFINISHED], DEFAULT, StudyState.REVIEW),
        ([Standing.DEFACED, Standing.INDETERMINATE], DEFAULT, StudyState.REVIEW),
        ([Standing.PARTLY_SEEN], DEFAULT, StudyState.REVIEW),
        ([Standing.PARTLY_SEEN], StudyRules(partly_seen="blocked"), StudyState.BLOCKED),
        ([Standing.NOT_APPLICABLE], DEFAULT, StudyState.REVIEW),
        ([Standing.NOT_APPLICABLE], BODIES_MAY_GO, StudyState.CLEARED),
        ([Standing.NOT_APPLICABLE, Standing.INDETERMINATE], BODIES_MAY_GO, StudyState.REVIEW),
        ([Standing.SKIPPED], BODIES_MAY_GO, StudyState.REVIEW),
        ([], BODIES_MAY_GO, StudyState.REVIEW),
        ([Standing.DEFACED, Standing.FAILED], StudyRules(failed="blocked"), StudyState.BLOCKED),
        ([Standing.FACE_PRESENT], StudyRules(face_present="review"), StudyState.REVIEW),
    ],
)
def test_the_strictest_answer_counts(standings: list[Standing], rules: StudyRules, expected: StudyState) -> None:
    assert judge_study(standings, rules)[0] is expected


def test_the_reason_counts_series() -> None:
    _, reason = judge_study([Standing.DEFACED, Standing.FACE_PRESENT, Standing.FACE_PRESENT], DEFAULT)
    assert reason == "2 of 3 series face present"


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (evidence(), Standing.DEFACED),
        (evidence(verdicts=("defaced", "face_present")), Standing.FACE_PRESENT),
        (evidence(verdicts=("defaced", "face_present", "indeterminate", "not_applicable")), Standing.FACE_PRESENT),
        (evidence(verdicts=("defaced", "indeterminate")), Standing.INDETERMINATE),
        (evidence(verdicts=("defaced", "not_applicable")), Standing.DEFACED),
        (evidence(remark_codes=frozenset({"stacks-not-run"})), Standing.PARTLY_SEEN),
        (evidence(remark_codes=frozenset({"several-stacks"})), Standing.DEFACED),
        (evidence(verdicts=("face_present",), remark_codes=frozenset({"stacks-not-run"})), Standing.FACE_PRESENT),
        (evidence(verdicts=("not_applicable",), remark_codes=frozenset({"stacks-not-run"})), Standing.PARTLY_SEEN),
        (evidence(remark_codes=frozenset({"planes-not-run"})), Standing.PARTLY_SEEN),
        (evidence(verdicts=("not_applicable",), remark_codes=frozenset({"planes-not-run"})), Standing.PARTLY_SEEN),
        (evidence(verdicts=("not_applicable",), remark_codes=frozenset({"pictures-left-out"})), Standing.PARTLY_SEEN),
        (evidence(remark_codes=frozenset({"planes-within-not-run"})), Standing.PARTLY_SEEN),
        (
            evidence(verdicts=("not_applicable",), remark_codes=frozenset({"planes-within-not-run"})),
            Standing.NOT_APPLICABLE,
        ),
        (evidence(remark_codes=frozenset({"planes-left-out", "objects-left-out"})), Standing.DEFACED),
        (evidence(remark_codes=frozenset({"repeats-not-run"})), Standing.PARTLY_SEEN),
        (evidence(verdicts=("not_applicable",), remark_codes=frozenset({"repeats-not-run"})), Standing.NOT_APPLICABLE),
        (evidence(remark_codes=frozenset({"completeness-doubted"})), Standing.PARTLY_SEEN),
        (
            evidence(verdicts=("not_applicable",), remark_codes=frozenset({"completeness-doubted"})),
            Standing.PARTLY_SEEN,
        ),
        (
            evidence(verdicts=("face_present",), remark_codes=frozenset({"completeness-doubted"})),
            Standing.FACE_PRESENT,
        ),
        (evidence(verdicts=()), Standing.FAILED),
        (evidence(verdicts=("defaced", "rendered-harmless")), Standing.FAILED),
        (evidence(job_states=(JobState.QUEUED,)), Standing.UNFINISHED),
        (evidence(job_states=(JobState.SUCCEEDED, JobState.RUNNING)), Standing.UNFINISHED),
        (evidence(job_states=(JobState.SUCCEEDED, JobState.DEAD)), Standing.FAILED),
        (evidence(job_states=(JobState.CANCELLED,)), Standing.FAILED),
        (evidence(job_states=()), Standing.UNFINISHED),
        (evidence(job_states=(JobState.SUPERSEDED, JobState.SUCCEEDED)), Standing.DEFACED),
        (evidence(state=SeriesState.RECEIVING), Standing.UNFINISHED),
        (evidence(state=SeriesState.SKIPPED, job_states=(), verdicts=()), Standing.SKIPPED),
        # Retention deleted its sources: a verdict stays a verdict, a scout stays a scout.
        (evidence(state=SeriesState.DELETED), Standing.DEFACED),
        (replace(evidence(SeriesState.DELETED, (), ()), skip_reason="rule-scout: few slices"), Standing.SKIPPED),
        (replace(evidence(), n_conflicts=1), Standing.CONFLICT),
        (replace(evidence(verdicts=("face_present",)), n_conflicts=1), Standing.FACE_PRESENT),
        (replace(evidence(SeriesState.SKIPPED, (), ()), n_conflicts=1), Standing.CONFLICT),
    ],
)
def test_where_a_series_stands(series: SeriesEvidence, expected: Standing) -> None:
    assert standing_of(series) is expected


def test_a_verdict_of_an_earlier_pipeline_counts_as_doubt() -> None:
    found = replace(evidence(), pipeline_digests=frozenset({"old"}))
    assert standing_of(found, "new") is Standing.EARLIER_PIPELINE
    assert standing_of(found, "old") is standing_of(found) is Standing.DEFACED
    known = StudyEvidence((found,), "f")
    assert study_decision(DEFAULT, "new")(known).state is StudyState.REVIEW
    assert study_decision(StudyRules(earlier_pipeline="accepted"), "new")(known).state is StudyState.CLEARED


@given(st.lists(st.sampled_from(list(Standing)), max_size=6), st.sampled_from([DEFAULT, BODIES_MAY_GO]))
def test_doubt_never_clears_a_study_and_more_series_never_do_so_by_being_doubtful(
    standings: list[Standing], rules: StudyRules
) -> None:
    doubts = set(Standing) - {Standing.DEFACED, Standing.NOT_APPLICABLE, Standing.SKIPPED}
    if judge_study(standings, rules)[0] is StudyState.CLEARED:
        assert not set(standings) & doubts
    for doubt in doubts:
        assert judge_study([*standings, doubt], rules)[0] is not StudyState.CLEARED


def test_the_order_of_the_series_does_not_matter() -> None:
    entries = [
        evidence(),
        evidence(job_states=(JobState.DEAD,)),
        evidence(verdicts=("not_applicable",)),
    ]
    decide = study_decision(DEFAULT)
    judged = {decide(StudyEvidence(order, "f")).state for order in itertools.permutations(entries)}
    assert judged == {StudyState.REVIEW}


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        ("defaced", StudyState.REVIEW),  # the clearance may be the other patient's
        ("face_present", StudyState.BLOCKED),
        ("indeterminate", StudyState.REVIEW),
    ],
)
def test_two_patients_in_a_study_clear_nothing_and_loosen_nothing(verdict: str, state: StudyState) -> None:
    judgement = study_decision(DEFAULT)(StudyEvidence((evidence(verdicts=(verdict,)),), "f" * 64, n_patients=2))
    assert judgement.state is state
    assert judgement.reason.startswith("2 different Patient IDs in it; ")

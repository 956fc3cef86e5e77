"""Whether a study may leave: rules, decisions of people, evidence that changes, and both at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.gate.decisions import GateState, Standpoint, decide, list_standpoints, standpoints
from dicom_node.gate.errors import DecisionRefusedError
from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import StudyRules, gate_digest
from dicom_node.store import DecisionKind, NewVerdict, NotFoundError, Outcome, Skip, Store
from tests.store.sending import STUDY, closing, instance, keep

DIGEST = "d" * 64
RULES = StudyRules()
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def found(
    store: Store, verdict: str, *, series: str = "1.2.3.4", rules: StudyRules = RULES, digest: str = DIGEST
) -> None:
    """A series of the study that was received, closed and looked at."""
    keep(store, instance(1, series=series))
    row = store.series.get(series)
    store.closing.complete(row, closing(digest=digest), at(10))
    job = store.jobs.claim("w", at(11), 60, pipeline_digest=digest)
    assert job is not None
    outcome = Outcome(verdicts=(NewVerdict(1, verdict, 0.9, (), frozenset(), {}),))
    store.jobs.succeed(job.id, "w", outcome, at(12), decide_study=study_decision(rules, digest))


def standing(store: Store, *, rules: StudyRules = RULES, digest: str = DIGEST) -> Standpoint:
    (found,) = standpoints(store, [store.studies.get(STUDY)], gate_digest(rules, digest), rules)
    return found


def say(
    store: Store,
    kind: DecisionKind,
    *,
    reason: str = "phantom",
    by: str = "Ann",
    seconds: float = 20,
    rules: StudyRules = RULES,
) -> None:
    decide(
        store,
        STUDY,
        kind,
        reason=reason,
        decided_by=by,
        now=at(seconds),
        gate_digest=gate_digest(rules, DIGEST),
        rules=rules,
    )


def test_the_reason_time_rules_and_evidence_are_kept_with_the_state(store: Store) -> None:
    found(store, "defaced")
    study = store.studies.get(STUDY)
    assert (study.state.value, study.reason, study.judged_at) == ("cleared", "1 of 1 series defaced", at(12))
    assert study.gate_digest == gate_digest(RULES, DIGEST)
    assert study.evidence_fingerprint == store.studies.evidence(STUDY).fingerprint
    assert standing(store).state is GateState.CLEARED


def test_one_face_among_defaced_series_blocks_the_study(store: Store) -> None:
    for number in range(3):
        found(store, "defaced", series=f"1.2.3.{number}")
    found(store, "face_present", series="1.2.3.9")
    assert (standing(store).state, standing(store).reason) == (GateState.BLOCKED, "1 of 4 series face present")


def test_a_release_lets_a_doubtful_study_go_and_names_the_person(store: Store) -> None:
    found(store, "indeterminate")
    assert standing(store).state is GateState.REVIEW
    say(store, DecisionKind.RELEASE)
    one = standing(store)
    assert (one.state, one.is_released) == (GateState.CLEARED, True)
    assert one.reason == "released by Ann: phantom (1 of 1 series indeterminate)"


def test_a_release_ends_with_new_evidence(store: Store) -> None:
    found(store, "indeterminate")
    say(store, DecisionKind.RELEASE)
    found(store, "indeterminate", series="1.2.3.5")
    one = standing(store)
    assert one.state is GateState.REVIEW
    assert "a release by Ann was for earlier evidence" in one.reason


def test_a_hold_outlives_new_evidence(store: Store) -> None:
    found(store, "defaced")
    say(store, DecisionKind.HOLD, reason="consent withdrawn")
    found(store, "defaced", series="1.2.3.5")
    assert (standing(store).state, standing(store).reason) == (GateState.HELD, "held by Ann: consent withdrawn")
    say(store, DecisionKind.RELEASE, reason="consent given again", seconds=30)
    assert standing(store).state is GateState.CLEARED


def test_of_two_decisions_at_one_moment_the_hold_wins_and_both_are_kept(store: Store) -> None:
    found(store, "indeterminate")
    for kind in (DecisionKind.HOLD, DecisionKind.RELEASE, DecisionKind.HOLD, DecisionKind.RELEASE):
        say(store, kind)
    assert standing(store).state is GateState.HELD
    assert len(store.decisions.of(STUDY)) == 4


def test_nothing_can_be_released_while_the_study_is_open(store: Store) -> None:
    keep(store, instance(1))
    with pytest.raises(DecisionRefusedError, match="is open, and nothing is complete"):
        say(store, DecisionKind.RELEASE)
    say(store, DecisionKind.HOLD)
    assert standing(store).state is GateState.HELD


def test_a_visible_face_is_released_only_where_the_rules_allow_it(store: Store) -> None:
    lenient = StudyRules(release_of_blocked="allowed")
    found(store, "face_present", rules=lenient)
    with pytest.raises(DecisionRefusedError, match="is open"):
        say(store, DecisionKind.RELEASE)
    say(store, DecisionKind.RELEASE, rules=lenient)
    assert standing(store, rules=lenient).state is GateState.CLEARED
    assert standing(store).state is GateState.OPEN  # the strict rules have not judged it yet


@pytest.mark.parametrize(("reason", "by", "told"), [(" ", "Ann", "reason is empty"), ("why", "", "name is empty")])
def test_a_decision_needs_a_reason_and_a_name(reason: str, by: str, told: str, store: Store) -> None:
    found(store, "indeterminate")
    with pytest.raises(DecisionRefusedError, match=told):
        say(store, DecisionKind.RELEASE, reason=reason, by=by)
    assert store.decisions.of(STUDY) == ()


def test_an_unknown_study_is_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match="study"):
        say(store, DecisionKind.HOLD)


def test_other_content_under_the_same_uid_reopens_a_cleared_study_and_keeps_it_in(store: Store) -> None:
    found(store, "defaced")
    keep(store, instance(1, series="1.2.3.4", StudyDescription="other content"))
    assert standing(store).state is GateState.OPEN
    store.studies.decide(STUDY, study_decision(RULES, DIGEST), at(30))
    assert (standing(store).state, standing(store).reason) == (GateState.REVIEW, "1 of 1 series conflict")


def test_a_conflict_that_a_person_settled_is_no_doubt_any_more(store: Store) -> None:
    found(store, "defaced")
    keep(store, instance(1, series="1.2.3.4", StudyDescription="other content"))
    (conflict,) = store.series.conflicts()
    assert store.conflicts.keep(conflict.id, reason="corrected", decided_by="Ann", now=at(30))
    assert not store.conflicts.keep(conflict.id, reason="again", decided_by="Ben", now=at(31))
    assert (store.series.n_conflicts(), standing(store).state) == (0, GateState.OPEN)
    store.studies.decide(STUDY, study_decision(RULES, DIGEST), at(32))
    assert standing(store).state is GateState.CLEARED
    assert [(row.actor, row.action) for row in store.audit.list()] == [("Ann", "conflict-kept")]
    with pytest.raises(NotFoundError, match="conflict 99"):
        store.conflicts.keep(99, reason="why", decided_by="Ann", now=at(33))


def test_the_same_content_again_changes_nothing(store: Store) -> None:
    found(store, "defaced")
    before = store.studies.get(STUDY)
    keep(store, instance(1, series="1.2.3.4"))
    assert store.studies.get(STUDY) == before


@pytest.mark.parametrize("changed", [StudyRules(indeterminate="blocked"), StudyRules(only_not_applicable="cleared")])
def test_a_study_that_was_judged_by_other_rules_is_open_and_due(changed: StudyRules, store: Store) -> None:
    found(store, "defaced")
    assert standing(store, rules=changed).state is GateState.OPEN
    digest = gate_digest(changed, DIGEST)
    (due,) = store.studies.due(digest)
    store.studies.decide(due.study_instance_uid, study_decision(changed, DIGEST), at(40))
    assert store.studies.due(digest) == ()
    assert standing(store, rules=changed).state is GateState.CLEARED


def test_a_verdict_of_another_pipeline_clears_nothing(store: Store) -> None:
    found(store, "defaced", digest="e" * 64)
    store.studies.decide(STUDY, study_decision(RULES, DIGEST), at(40))
    assert (standing(store).state, standing(store).reason) == (GateState.REVIEW, "1 of 1 series earlier pipeline")


def test_a_scout_whose_sources_retention_deleted_takes_no_clearance_back(store: Store) -> None:
    found(store, "defaced")
    keep(store, instance(1, series="1.2.3.7"))
    row = store.series.get("1.2.3.7")
    store.closing.complete(row, closing(Skip("rule-scout: few slices")), at(20))
    assert store.retention.delete_sources(store.series.get("1.2.3.7"), at(25))
    store.studies.decide(STUDY, study_decision(RULES, DIGEST), at(30))
    assert standing(store).state is GateState.CLEARED


def test_the_fingerprint_changes_with_every_kind_of_evidence(store: Store) -> None:
    seen = set()
    steps = (
        lambda: keep(store, instance(1, series="1.2.3.4")),
        lambda: found(store, "defaced", series="1.2.3.4"),
        lambda: keep(store, instance(2, series="1.2.3.6")),
        lambda: store.closing.complete(store.series.get("1.2.3.6"), closing(Skip("why")), at(20)),
        lambda: keep(store, instance(2, series="1.2.3.6", StudyDescription="other")),
        lambda: store.closing.reopen("1.2.3.4", at(30)),
    )
    for step in steps:
        step()
        seen.add(store.studies.evidence(STUDY).fingerprint)
    assert len(seen) == len(steps)


def test_studies_are_listed_by_the_state_that_counts(store: Store) -> None:
    found(store, "defaced")
    say(store, DecisionKind.HOLD)
    digest = gate_digest(RULES, DIGEST)
    assert [one.state for one in list_standpoints(store, digest, RULES)] == [GateState.HELD]
    assert list_standpoints(store, digest, RULES, state=GateState.CLEARED) == ()
    assert len(list_standpoints(store, digest, RULES, state=GateState.HELD)) == 1

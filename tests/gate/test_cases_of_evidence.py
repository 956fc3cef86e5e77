"""Cases 1 to 19 of what may leave, one test each, with outcome and reason: what the node knows of a study."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.gate.decisions import GateState
from dicom_node.gate.errors import DecisionRefusedError
from dicom_node.gate.rules import StudyRules
from dicom_node.pipeline.likeness import differences_of
from dicom_node.store import DecisionKind, JobState, Store
from tests.gate.cases import (
    NAMES,
    at,
    copies,
    ended,
    export,
    image,
    judge,
    received,
    say,
    seen,
    skipped,
    stands,
    told,
)
from tests.store.sending import STUDY, keep

BODIES_MAY_GO = StudyRules(only_not_applicable="cleared")


def stands_at(store: Store, state: GateState, reason: str, rules: StudyRules | None = None) -> None:
    found = judge(store, rules or StudyRules())
    assert (found.state, found.reason) == (state, reason)


def test_01_one_face_among_ten_defaced_series_blocks_the_study(store: Store, tmp_path: Path) -> None:
    for number in range(10):
        seen(store, "defaced", series=f"1.2.3.{number}", n=1)
    seen(store, "face_present", series="1.2.3.99", n=1)
    stands_at(store, GateState.BLOCKED, "1 of 11 series face present")
    content = export(store, tmp_path / "out")
    assert told(content) == ("not-cleared", "blocked: 1 of 11 series face present")
    assert copies(tmp_path / "out") == []


def test_02_one_indeterminate_among_nine_defaced_series_asks_for_review(store: Store) -> None:
    for number in range(9):
        seen(store, "defaced", series=f"1.2.3.{number}", n=1)
    seen(store, "indeterminate", series="1.2.3.99", n=1)
    stands_at(store, GateState.REVIEW, "1 of 10 series indeterminate")


def test_03_without_a_face_in_view_the_rules_decide(store: Store) -> None:
    seen(store, "not_applicable")
    stands_at(store, GateState.REVIEW, "no face field of view: 1 of 1 series not applicable")
    stands_at(store, GateState.CLEARED, "no face field of view: 1 of 1 series not applicable", BODIES_MAY_GO)


def test_04_a_skull_stripped_series_is_never_called_defaced(store: Store, tmp_path: Path) -> None:
    seen(store, "not_applicable", rules=BODIES_MAY_GO)
    assert told(export(store, tmp_path / "out", BODIES_MAY_GO)) == ("exported", "")
    for path in copies(tmp_path / "out"):
        assert "RecognizableVisualFeatures" not in dcmread(path)


def test_05_a_study_of_scouts_and_reports_was_seen_by_no_model(store: Store) -> None:
    skipped(store, "1.2.3.4")
    skipped(store, "1.2.3.5", why="modality SR")
    stands_at(store, GateState.REVIEW, "no model has seen any series of it")


def test_06_a_lateral_scout_stays_when_its_study_leaves(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    skipped(store, "1.2.3.5")
    judge(store)
    assert told(export(store, tmp_path / "out")) == ("exported", "")
    series = {str(dcmread(path).SeriesInstanceUID) for path in copies(tmp_path / "out")}
    assert series == {NAMES.mapped_uid("1.2.3.4")}


@pytest.mark.parametrize("state", [JobState.DEAD, JobState.CANCELLED])
def test_07_a_failed_series_asks_for_review(state: JobState, store: Store) -> None:
    seen(store, "defaced")
    ended(store, state, "1.2.3.5")
    stands_at(store, GateState.REVIEW, "1 of 2 series failed")


def test_08_a_late_slice_opens_a_cleared_study_and_export_refuses(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    keep(store, image(3))
    found = stands(store)
    assert (found.state, found.reason) == (GateState.OPEN, "still receiving, or not judged yet")
    assert told(export(store, tmp_path / "out")) == ("not-cleared", "open: still receiving, or not judged yet")
    assert copies(tmp_path / "out") == []


def test_11_a_release_ends_with_a_new_generation_and_the_old_decision_is_shown(store: Store) -> None:
    seen(store, "indeterminate")
    say(store, DecisionKind.RELEASE)
    assert stands(store).state is GateState.CLEARED
    store.closing.reopen("1.2.3.4", at(60))
    seen(store, "indeterminate", series="1.2.3.5")
    found = judge(store)
    assert found.state is GateState.REVIEW
    assert found.reason.endswith("a release by Ann was for earlier evidence")


def test_12_a_hold_outlives_that_everything_is_defaced(store: Store, tmp_path: Path) -> None:
    seen(store, "indeterminate")
    say(store, DecisionKind.HOLD)
    seen(store, "defaced", series="1.2.3.5")
    found = judge(store)
    assert (found.state, found.reason) == (GateState.HELD, "held by Ann: phantom")
    assert told(export(store, tmp_path / "out")) == ("not-cleared", "held: a person holds it")
    assert copies(tmp_path / "out") == []


def test_13_nothing_is_released_while_the_study_is_open(store: Store) -> None:
    received(store)
    with pytest.raises(DecisionRefusedError, match="is open, and nothing is complete that could be released"):
        say(store, DecisionKind.RELEASE)


def test_14_of_two_decisions_at_the_same_moment_both_are_kept_and_the_hold_wins(store: Store) -> None:
    seen(store, "indeterminate")
    say(store, DecisionKind.HOLD)
    say(store, DecisionKind.RELEASE)
    assert (stands(store).state, len(store.decisions.of(STUDY))) == (GateState.HELD, 2)


def test_15_a_second_content_asks_for_review_until_a_person_has_chosen_and_both_are_named(
    store: Store, tmp_path: Path
) -> None:
    seen(store, "defaced")
    keep(store, image(1, StudyDescription="other"))
    stands_at(store, GateState.REVIEW, "1 of 1 series conflict")
    assert told(export(store, tmp_path / "out")) == ("not-cleared", "review: 1 of 1 series conflict")
    (conflict,) = store.series.conflicts()
    assert conflict.stored_digest not in (None, conflict.digest)
    assert differences_of(store, conflict) == ("StudyDescription",)
    store.conflicts.keep(conflict.id, reason="why", decided_by="Ann", now=at(90))
    stands_at(store, GateState.CLEARED, "1 of 1 series defaced")


def test_16_what_retention_deleted_cannot_be_exported(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    assert store.retention.delete_sources(store.series.get("1.2.3.4"), at(90))
    judge(store)
    outcome, reason = told(export(store, tmp_path / "out"))
    assert (outcome, reason) == ("sources-deleted", "retention has deleted the instances of a series; send them again")


def test_17_when_rules_are_tightened_nothing_leaves_before_it_was_judged_again(store: Store, tmp_path: Path) -> None:
    seen(store, "defaced")
    strict = StudyRules(indeterminate="blocked")
    content = export(store, tmp_path / "out", strict)
    changed = "open: rules or models have changed; it will be judged again"
    assert (told(content), copies(tmp_path / "out")) == (("not-cleared", changed), [])
    assert stands(store, strict).reason == "rules or models have changed; it will be judged again"
    judge(store, strict)
    again = export(store, tmp_path / "out", strict)
    assert told(again) == ("exported", "")
    assert again["gate_digest"] != export(store, tmp_path / "other")["gate_digest"]


def test_19_a_verdict_of_a_withdrawn_model_counts_for_nothing(store: Store) -> None:
    seen(store, "defaced", digest="e" * 64)
    stands_at(store, GateState.REVIEW, "1 of 1 series earlier pipeline")

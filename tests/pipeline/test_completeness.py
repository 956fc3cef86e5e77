"""When a series counts as complete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.pipeline.completeness import Completeness, Evidence, Patience, judge_silence, weigh_evidence

LAST = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PATIENCE = Patience(quiet_s=30.0, max_wait_s=300.0)
SHORT = Evidence(doubts=("pacs has 120 instances, 118 are here",))


def weigh(silent_s: float, evidence: Evidence, *, is_forced: bool = False) -> Completeness:
    return weigh_evidence(LAST, LAST + timedelta(seconds=silent_s), PATIENCE, evidence, is_forced=is_forced)


@pytest.mark.parametrize(("silent_s", "expected"), [(0.0, False), (29.9, False), (30.0, True), (3600.0, True)])
def test_a_series_is_silent_after_the_quiet_period(silent_s: float, expected: bool) -> None:
    assert judge_silence(LAST, LAST + timedelta(seconds=silent_s), quiet_s=30.0).is_complete is expected
    assert weigh(silent_s, Evidence()).is_complete is expected


def test_an_incomplete_series_says_how_long_it_is_silent() -> None:
    verdict = judge_silence(LAST, LAST + timedelta(seconds=12), quiet_s=30.0)
    assert verdict.reason == "last instance 12 s ago (quiet period 30 s)"


def test_a_clock_that_was_set_back_never_completes_a_series_too_early() -> None:
    assert not judge_silence(LAST, LAST - timedelta(hours=1), quiet_s=30.0).is_complete
    assert not weigh(-3600.0, Evidence(confirmed="pacs has 3 instances, as many as are here")).is_complete


def test_nobodys_word_makes_a_series_complete_before_it_is_silent() -> None:
    assert not weigh(29.0, Evidence(confirmed="pacs has 3 instances, as many as are here")).is_complete


def test_a_confirmation_is_the_reason() -> None:
    verdict = weigh(30.0, Evidence(confirmed="pacs has 3 instances, as many as are here"))
    assert verdict.is_complete
    assert verdict.reason.endswith("; pacs has 3 instances, as many as are here")
    assert not verdict.is_doubted


def test_a_doubt_makes_a_series_wait_and_no_longer_than_it_may() -> None:
    waits = weigh(299.0, SHORT)
    assert not waits.is_complete
    assert "pacs has 120 instances, 118 are here (waits at most 300 s)" in waits.reason
    goes_on = weigh(300.0, SHORT)
    assert (goes_on.is_complete, goes_on.is_doubted) == (True, True)
    assert goes_on.reason == "no instance for 300 s, although pacs has 120 instances, 118 are here"


def test_a_person_decides_at_once_and_the_doubt_is_kept() -> None:
    forced = weigh(0.0, SHORT, is_forced=True)
    assert (forced.is_complete, forced.is_doubted) == (True, True)
    assert forced.reason == "completed by hand although pacs has 120 instances, 118 are here"
    assert weigh(0.0, Evidence(), is_forced=True) == Completeness(True, "completed by hand")

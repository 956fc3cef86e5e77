"""When a series counts as complete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.pipeline.completeness import judge_completeness

LAST = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(("silent_s", "expected"), [(0.0, False), (29.9, False), (30.0, True), (3600.0, True)])
def test_a_series_is_complete_after_the_quiet_period(silent_s: float, expected: bool) -> None:
    assert judge_completeness(LAST, LAST + timedelta(seconds=silent_s), quiet_s=30.0).is_complete is expected


def test_an_incomplete_series_says_how_long_it_is_silent() -> None:
    verdict = judge_completeness(LAST, LAST + timedelta(seconds=12), quiet_s=30.0)
    assert verdict.reason == "last instance 12 s ago (quiet period 30 s)"


def test_a_clock_that_was_set_back_never_completes_a_series_too_early() -> None:
    assert not judge_completeness(LAST, LAST - timedelta(hours=1), quiet_s=30.0).is_complete

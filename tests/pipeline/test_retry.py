"""When a failed attempt is tried again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dicom_node.failures import ErrorKind
from dicom_node.pipeline.retry import RetryPolicy

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=5, backoff_s=30.0, max_backoff_s=100.0)


def wait_s(kind: ErrorKind, attempt_number: int) -> float | None:
    retry_at = POLICY.retry_at(kind, attempt_number, NOW)
    return None if retry_at is None else (retry_at - NOW).total_seconds()


def test_a_transient_error_is_tried_with_doubling_waits_up_to_a_bound_and_then_no_more() -> None:
    assert [wait_s(ErrorKind.TRANSIENT, number) for number in range(1, 6)] == [30.0, 60.0, 100.0, 100.0, None]


def test_a_refused_input_is_never_tried_again() -> None:
    assert wait_s(ErrorKind.REFUSED, 1) is None


def test_a_defect_is_tried_once_more() -> None:
    assert [wait_s(ErrorKind.DEFECT, 1), wait_s(ErrorKind.DEFECT, 2)] == [30.0, None]


def test_a_single_attempt_holds_for_defects_too() -> None:
    assert RetryPolicy(max_attempts=1, backoff_s=1.0).retry_at(ErrorKind.DEFECT, 1, NOW) is None


@pytest.mark.parametrize("attempt_number", [40, 10_000])
def test_late_attempts_do_not_overflow(attempt_number: int) -> None:
    policy = RetryPolicy(max_attempts=100_000, backoff_s=1.0, max_backoff_s=60.0)
    retry_at = policy.retry_at(ErrorKind.TRANSIENT, attempt_number, NOW)
    assert retry_at is not None
    assert (retry_at - NOW).total_seconds() == 60.0

"""Decide when to try again after a failure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dicom_node.failures import ErrorKind

MAX_BACKOFF_S = 3600.0
DEFECT_ATTEMPTS = 2  # a second attempt distinguishes a passing failure from a defect, which rarely disappears by itself


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon to try again; the wait doubles with every attempt."""

    max_attempts: int
    backoff_s: float
    max_backoff_s: float = MAX_BACKOFF_S

    def retry_at(self, kind: ErrorKind, attempt_number: int, now: datetime) -> datetime | None:
        """Return when to try again after attempt ``attempt_number`` (from 1) failed, or None to give up."""
        allowed = {
            ErrorKind.REFUSED: 1,
            ErrorKind.DEFECT: min(DEFECT_ATTEMPTS, self.max_attempts),
            ErrorKind.TRANSIENT: self.max_attempts,
        }[kind]
        if attempt_number >= allowed:
            return None
        doublings = min(attempt_number - 1, 32)  # 2^32 times any wait exceeds every sensible limit
        return now + timedelta(seconds=min(self.backoff_s * 2**doublings, self.max_backoff_s))

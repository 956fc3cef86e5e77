"""Return work to the queue if its owner no longer renews the lease."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import StudyRules
from dicom_node.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """Length of leases and waits, and how often a job may kill its worker.

    Attributes
    ----------
    longest_wait_s
        Longest wait before another attempt of a job or delivery.
    max_attempts
        A job that kills its worker each time (memory, a crash in native code) is dead after this many.
    """

    lease_s: float
    longest_wait_s: float
    max_attempts: int


def correct_times(store: Store, policy: LeasePolicy, *, now: datetime, step_s: float) -> None:
    """Limit leases and waits after the clock was set, by ``step_s`` or before this process began."""
    n_changed = store.times.bound(
        now, lease_s=policy.lease_s, longest_wait_s=policy.longest_wait_s, renew_leases=step_s != 0.0
    )
    if n_changed:
        log.warning("leases and waits begin anew, because the clock was set", extra={"n_changed": n_changed})


def expire_leases(store: Store, rules: StudyRules, *, max_attempts: int, now: datetime) -> None:
    """Requeue jobs and deliveries whose lease has expired; a job without attempts left becomes dead."""
    n_jobs = store.jobs.expire_leases(now, max_attempts=max_attempts, decide_study=study_decision(rules))
    n_deliveries = store.deliveries.expire_leases(now)
    if n_jobs or n_deliveries:
        log.warning("leases expired", extra={"n_jobs": n_jobs, "n_deliveries": n_deliveries})

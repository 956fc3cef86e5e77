"""Work whose owner is silent goes back into the queue."""

from __future__ import annotations

import logging
from datetime import datetime

from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import StudyRules
from dicom_node.store import Store

log = logging.getLogger(__name__)


def expire_leases(store: Store, rules: StudyRules, *, max_attempts: int, now: datetime) -> None:
    """Requeue jobs and deliveries of which the lease ran out.

    A job that takes its worker down every time (memory, a crash in native code) is dead after ``max_attempts``.
    """
    n_jobs = store.jobs.expire_leases(now, max_attempts=max_attempts, decide_study=study_decision(rules))
    n_deliveries = store.deliveries.expire_leases(now)
    if n_jobs or n_deliveries:
        log.warning("leases expired", extra={"n_jobs": n_jobs, "n_deliveries": n_deliveries})

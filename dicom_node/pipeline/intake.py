"""From quiet series to queued jobs."""

from __future__ import annotations

import logging
from datetime import datetime

from dicom_node.pipeline import routing
from dicom_node.pipeline.completeness import judge_completeness
from dicom_node.pipeline.routing import Process, route
from dicom_node.pipeline.rules import Rules
from dicom_node.pipeline.series_facts import facts_of_series
from dicom_node.pipeline.study_state import study_decision
from dicom_node.store import JobPlan, SeriesRow, Skip, Store

log = logging.getLogger(__name__)

UNREADABLE = Process("not-readable", None)
EVERY_STACK = "every-stack"  # a series is all the volumes that its instances make


def complete_quiet_series(store: Store, rules: Rules, *, pipeline_digest: str, quiet_s: float, now: datetime) -> int:
    """Close every series to which nothing was added for a while; gives how many were closed."""
    n_closed = 0
    for series in store.series.quiet(now, quiet_s):
        completeness = judge_completeness(series.last_arrival_at, now, quiet_s=quiet_s)
        if not completeness.is_complete:
            continue
        n_closed += _close(store, series, rules, pipeline_digest, now, completeness.reason)
    return n_closed


def _close(
    store: Store, series: SeriesRow, rules: Rules, pipeline_digest: str, now: datetime, complete_because: str
) -> bool:
    decision = _route(store, series, rules)
    plan: tuple[JobPlan, ...] | Skip
    if isinstance(decision, Process):
        plan = (JobPlan(EVERY_STACK, pipeline_digest, reason=f"rule {decision.rule_name}"),)
    else:
        plan = Skip(f"{decision.code}: {decision.reason}")
    is_closed = store.series.complete(series, plan, now)
    if is_closed:
        store.studies.decide(series.study_instance_uid, study_decision(rules.study))
        log.info(
            "series complete",
            extra={
                "series_instance_uid": series.series_instance_uid,
                "generation": series.generation,
                "n_instances": series.n_instances,
                "complete_because": complete_because,
                "decision": plan.reason if isinstance(plan, Skip) else plan[0].reason,
            },
        )
    return is_closed


def _route(store: Store, series: SeriesRow, rules: Rules) -> Process | routing.Skip:
    instances = store.series.instances(series.series_instance_uid, generation=series.generation)
    try:
        return route(facts_of_series(store, instances, rules.keywords), rules)
    except Exception:
        # Its objects are gone, say. The job will meet the same trouble, and is where it is recorded by name.
        log.exception("series not readable", extra={"series_instance_uid": series.series_instance_uid})
        return UNREADABLE


def judge_open_studies(store: Store, rules: Rules, *, at_most: int = 1000) -> None:
    """Judge studies of which a series was closed without the study being judged, because the process was killed then.

    A study that is still receiving stays open; so does one that is never judged, which keeps it in the house.
    """
    decide = study_decision(rules.study)
    for study in store.studies.due(limit=at_most):
        store.studies.decide(study.study_instance_uid, decide)

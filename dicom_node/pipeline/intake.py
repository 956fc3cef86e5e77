"""Close quiet series and queue their jobs."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import gate_digest
from dicom_node.pipeline import routing
from dicom_node.pipeline.clock_steps import CLOCK_WAS_SET, MIN_STEP_S, in_words
from dicom_node.pipeline.completeness import Completeness, Patience, weigh_evidence
from dicom_node.pipeline.evidence import Witnesses
from dicom_node.pipeline.routing import Process, route
from dicom_node.pipeline.rules import Rules
from dicom_node.pipeline.series_facts import facts_of_series
from dicom_node.store import Closing, Route, SeriesRow, Skip, Store
from inference.series.errors import UnsuitableObjectError

log = logging.getLogger(__name__)

UNREADABLE = Process("not-readable", None)
SOURCES_DELETED = Process("sources-deleted", None)


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """Rules and settings that decide on a complete series.

    Attributes
    ----------
    deliver_to
        Peers that get every result, unless a rule says otherwise.
    pipeline_digest
        Digest of the models and rules that the job is for.
    forward_to
        Peers that get all received series, unless a rule says otherwise.
    """

    rules: Rules
    deliver_to: tuple[str, ...]
    pipeline_digest: str
    forward_to: tuple[str, ...] = ()


def complete_quiet_series(
    store: Store, policy: RoutingPolicy, witnesses: Witnesses, *, patience: Patience, now: datetime
) -> int:
    """Close every series that counts as complete, and return how many were closed.

    Every quiet series is considered, so that series that wait do not block the others.
    """
    n_closed = 0
    looked_at: list[SeriesRow] = []
    page: tuple[SeriesRow, ...] = ()
    while page := store.series.quiet(now, patience.quiet_s, after=page[-1] if page else None):
        for series in page:
            evidence = witnesses.hear(series, now)
            is_forced = series.forced_at is not None
            completeness = weigh_evidence(series.last_arrival_at, now, patience, evidence, is_forced=is_forced)
            if completeness.is_complete:
                completeness = _with_clock_step(completeness, series)
                n_closed += _close(store, series, policy, now, completeness)
            elif store.series.note_wait(series, "; ".join(evidence.doubts)):
                log.info("series waits: %s", completeness.reason, extra=_fields(series))
        looked_at += page
    witnesses.forget_others(looked_at)
    return n_closed


def count_as_arrived_after_step(store: Store, *, now: datetime, step_s: float) -> bool:
    """Restart the quiet period of receiving series if the clock was set; return whether it was.

    After a step forward every series looks quiet, even one that is being sent; after a step back, even one before this
    process began, its last instance is in the future, and nothing would happen until then.
    """
    if step_s:
        because = f"{in_words(step_s)}; its last instance counts as arrived then"
        n_series = store.series.count_as_arrived(now, because)
    else:
        because = f"{CLOCK_WAS_SET} back; its last instance, in the future, counts as arrived at {now:%H:%M:%S} UTC"
        n_series = store.series.count_as_arrived(now, because, beyond=now + timedelta(seconds=MIN_STEP_S))
        if not n_series:
            return False
    log.warning("series wait: %s", because, extra={"n_series": n_series})
    return True


def hold_quiet_series(store: Store, reason: str, *, quiet_s: float, now: datetime) -> None:
    """Record on every quiet series why it is not completed now."""
    page: tuple[SeriesRow, ...] = ()
    while page := store.series.quiet(now, quiet_s, after=page[-1] if page else None):
        for series in page:
            if store.series.note_wait(series, reason):
                log.warning("series waits: %s", reason, extra=_fields(series))


def start_over_jobs(store: Store, *, pipeline_digest: str, now: datetime) -> int:
    """Start series over if their job was queued for other models or rules, or without a route; return how many.

    Results must not name a pipeline that did not run.
    """
    n_reopened = 0
    for job in store.jobs.queued_for_others(pipeline_digest):
        if store.closing.reopen(job.series_instance_uid, now):
            n_reopened += 1
            log.warning(
                "job is for another pipeline or has no route; its series starts over",
                extra={
                    "job_id": job.id,
                    "series_instance_uid": job.series_instance_uid,
                    "generation": job.generation,
                },
            )
    return n_reopened


def _with_clock_step(completeness: Completeness, series: SeriesRow) -> Completeness:
    """Add to the reason of a series that the clock was set while it was received."""
    if series.waits_because is None or not series.waits_because.startswith(CLOCK_WAS_SET):
        return completeness
    return replace(completeness, reason=f"{completeness.reason}; {series.waits_because}")


def _close(store: Store, series: SeriesRow, policy: RoutingPolicy, now: datetime, completeness: Completeness) -> bool:
    routed = _route(store, series, policy.rules)
    decision = _decide(routed, policy)
    forward_to = policy.forward_to if routed.forward_to is None else routed.forward_to
    closing = Closing(completeness.reason, completeness.is_doubted, policy.pipeline_digest, decision, forward_to)
    is_closed = store.closing.complete(series, closing, now)
    if is_closed:
        decide = study_decision(policy.rules.study, policy.pipeline_digest)
        store.studies.decide(series.study_instance_uid, decide, now)
        log.log(
            logging.WARNING if completeness.is_doubted else logging.INFO,
            "series closed in doubt" if completeness.is_doubted else "series complete",
            extra={
                **_fields(series),
                "complete_because": completeness.reason,
                "decision": decision.reason if isinstance(decision, Skip) else f"rule {decision.rule_name}",
            },
        )
    return is_closed


def _decide(decision: Process | routing.Skip, policy: RoutingPolicy) -> Route | Skip:
    """Turn the rules' decision into a route, with the peers from the settings if the rules name none."""
    if isinstance(decision, routing.Skip):
        return Skip(f"{decision.code}: {decision.reason}")
    deliver_to = policy.deliver_to if decision.deliver_to is None else decision.deliver_to
    return Route(decision.rule_name, tuple(decision.stacks), deliver_to)


def _fields(series: SeriesRow) -> dict[str, object]:
    """Return the fields of every log line about a series."""
    return {
        "series_instance_uid": series.series_instance_uid,
        "generation": series.generation,
        "n_instances": series.n_instances,
    }


def _route(store: Store, series: SeriesRow, rules: Rules) -> Process | routing.Skip:
    if series.n_instances < series.n_sources_deleted:
        return SOURCES_DELETED  # a part does not represent the whole; its job ends with that error
    instances = store.series.instances(series.series_instance_uid, generation=series.generation)
    try:
        return route(facts_of_series(store, instances, rules.keywords), rules)
    except UnsuitableObjectError as error:
        log.warning("series not routed by its values: %s", error, extra=_fields(series))
        return UNREADABLE
    except Exception:
        # For example, its objects are missing. The job will fail in the same way and record the error.
        log.exception("series not readable", extra={"series_instance_uid": series.series_instance_uid})
        return UNREADABLE


def judge_due_studies(store: Store, rules: Rules, *, pipeline_digest: str, now: datetime, at_most: int = 1000) -> None:
    """Judge studies that were not judged because a process was killed, or were judged by other rules or models.

    A study that is still receiving stays open, and an open study is not exported.
    """
    decide = study_decision(rules.study, pipeline_digest)
    for study in store.studies.due(gate_digest(rules.study, pipeline_digest), limit=at_most):
        store.studies.decide(study.study_instance_uid, decide, now)

"""Write a Key Object Selection Document for each study that may leave, and withdraw those of studies that may not.

The document is a notice for the PACS and for people; neither the gate nor an export reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dicom_node.gate.decisions import GateState, Standpoint, standpoint_of, standpoints
from dicom_node.gate.leaving import images_of, results_of, seen_series
from dicom_node.gate.rules import StudyRules, gate_digest
from dicom_node.pipeline.series_facts import header_of
from dicom_node.store import (
    DecisionRow,
    InstanceRow,
    NewResult,
    SeriesEvidence,
    SeriesState,
    Store,
    StoreError,
    StudyRow,
    StudyState,
)
from inference.series.errors import UnsuitableObjectError
from sr_writer.errors import WriterError
from sr_writer.key_objects import write_key_objects
from sr_writer.references import Reference

log = logging.getLogger(__name__)

_PAGE = 500
KIND = "kos"
CLEARED_BY_RULES = "The rules of the node let this study leave for research: anonymised areas were found."
CLEARED_BY_A_PERSON = "A person has released this study for research."


@dataclass(frozen=True, slots=True)
class KeyObjectPolicy:
    """By which rules and pipeline studies are judged, and which peers take the documents."""

    rules: StudyRules
    pipeline_digest: str
    takers: Collection[str]

    @property
    def gate_digest(self) -> str:
        """Digest of rules and pipeline."""
        return gate_digest(self.rules, self.pipeline_digest)

    def may_go(self, study: StudyRow, fingerprint: str, decision: DecisionRow | None) -> bool:
        """Whether a study may leave; it may not if the evidence is another than the one that was judged."""
        standpoint = standpoint_of(study, decision, self.gate_digest, self.rules)
        return standpoint.state is GateState.CLEARED and study.evidence_fingerprint == fingerprint


def settle_key_objects(store: Store, policy: KeyObjectPolicy, *, now: datetime, at_most: int = 100) -> int:
    """Give studies the document that they should have, and return how many were written or withdrawn.

    Parameters
    ----------
    at_most
        The next call continues after this many, so that a node with many cleared studies does other work in between.
    """
    n_changed = 0
    after = ""
    while page := store.key_objects.unsettled(after=after, limit=_PAGE):
        for standpoint in standpoints(store, page, policy.gate_digest, policy.rules):
            n_changed += _settle(store, standpoint, policy, now)
            if n_changed >= at_most:
                return n_changed
        after = page[-1].study_instance_uid
    return n_changed


def _settle(store: Store, standpoint: Standpoint, policy: KeyObjectPolicy, now: datetime) -> bool:
    study = standpoint.study
    uid = study.study_instance_uid
    fields = {"study_instance_uid": uid}
    if standpoint.state is GateState.CLEARED:
        if store.key_objects.fingerprint(uid) == study.evidence_fingerprint:
            return False
        try:
            is_written = _write(store, standpoint, policy, now)
        except (UnsuitableObjectError, StoreError, WriterError) as error:
            log.warning("no key object document: %s", error, extra=fields)
            return False
        if is_written:
            log.info("key object document written", extra=fields)
        return is_written
    is_to_be_judged = study.state is not StudyState.OPEN and study.gate_digest != policy.gate_digest
    if is_to_be_judged and standpoint.state is GateState.OPEN:
        return False
    is_withdrawn = store.key_objects.withdraw(uid, may_go=policy.may_go, now=now)
    if is_withdrawn:
        log.info("key object document withdrawn: the study may not leave", extra={**fields, "state": standpoint.state})
    return is_withdrawn


def _write(store: Store, standpoint: Standpoint, policy: KeyObjectPolicy, now: datetime) -> bool:
    uid = standpoint.study.study_instance_uid
    evidence = store.studies.evidence(uid)
    if evidence.fingerprint != standpoint.study.evidence_fingerprint:
        return False  # something has just arrived; the study is judged again first
    seen = seen_series(evidence.series, policy.rules, policy.pipeline_digest)
    are_sources_gone = any(series.state is SeriesState.DELETED for series in seen)
    instances = [] if are_sources_gone else list(_instances(store, seen))
    if not instances:
        return False
    written = write_key_objects(
        header_of(store, instances[0]),
        [Reference(row.series_instance_uid, row.sop_class_uid, row.sop_instance_uid) for row in instances],
        description=CLEARED_BY_A_PERSON if standpoint.is_released else CLEARED_BY_RULES,
        pipeline_digest=policy.pipeline_digest,
        written_at=_found_at(store, uid, seen),
    )
    document = NewResult(
        kind=KIND,
        stack_number=1,
        sop_class_uid=written.sop_class_uid,
        sop_instance_uid=written.sop_instance_uid,
        transfer_syntax_uid=written.transfer_syntax_uid,
        encoded_dataset=written.encoded_dataset,
    )
    return store.key_objects.publish(
        uid,
        document,
        fingerprint=evidence.fingerprint,
        deliver_to=_peers(store, seen, policy.takers),
        may_go=policy.may_go,
        now=now,
    )


def _instances(store: Store, seen: Sequence[SeriesEvidence]) -> Iterator[InstanceRow]:
    for series in seen:
        yield from images_of(store, series)[0]
        yield from results_of(store, series)


def _found_at(store: Store, study_instance_uid: str, seen: Sequence[SeriesEvidence]) -> datetime:
    """Return when the newest verdict was found, so that the same evidence makes the same bytes."""
    uids = {series.series_instance_uid for series in seen}
    found = store.studies.verdicts(study_instance_uid)
    return max(verdict.found_at for verdict in found if verdict.series_instance_uid in uids)


def _peers(store: Store, seen: Sequence[SeriesEvidence], takers: Collection[str]) -> tuple[str, ...]:
    """Return the peers that get the results of the study's series and take these documents."""
    peers: dict[str, None] = {}
    for series in seen:
        for job in store.jobs.list(series_instance_uid=series.series_instance_uid):
            if job.generation == series.generation and job.route is not None:
                peers |= dict.fromkeys(job.route.deliver_to)
    return tuple(peer for peer in peers if peer in takers)

"""Periodic work of the process `schedule`: completeness, routing, expired leases, deliveries, notices, retention.

It loads no model. If the models cannot be described (a missing folder, for example), series wait with that reason,
and everything else continues.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeGuard

from dicom_node.failures import ErrorKind, classify
from dicom_node.gate.rules import gate_digest
from dicom_node.gate.withdrawals import withdraw_exports
from dicom_node.peers import count_instances, deliver, request_commitment, tell
from dicom_node.pipeline.audit_forwarding import AuditForwarder
from dicom_node.pipeline.audit_sealing import AuditSealer
from dicom_node.pipeline.clock import Tick
from dicom_node.pipeline.clock_steps import ClockSteps
from dicom_node.pipeline.commitment import CommitmentDesk, forget_requests
from dicom_node.pipeline.completeness import Patience
from dicom_node.pipeline.counting import PeerCounts
from dicom_node.pipeline.delivery import Outbox
from dicom_node.pipeline.evidence import Witnesses
from dicom_node.pipeline.intake import (
    RoutingPolicy,
    complete_quiet_series,
    count_as_arrived_after_step,
    hold_quiet_series,
    judge_due_studies,
    start_over_jobs,
)
from dicom_node.pipeline.key_objects import KeyObjectPolicy, settle_key_objects
from dicom_node.pipeline.leases import LeasePolicy, correct_times, expire_leases
from dicom_node.pipeline.likeness import compare_due
from dicom_node.pipeline.notices import (
    MAX_LEASE_S,
    NoticeOutbox,
    Standings,
    announce_states,
    mark_outdated_states,
)
from dicom_node.pipeline.retention import delete_sources, relieve_disk
from dicom_node.pipeline.retry import MAX_BACKOFF_S, RetryPolicy
from dicom_node.pipeline.rules import Rules
from dicom_node.pipeline.verification import DeliveryCheck
from dicom_node.settings import DimsePeer, Peer, Settings, Target
from dicom_node.store import Store

MAX_TICK_S = 5.0
STUDY_TICK_S = 30.0
RETENTION_TICK_S = 3600.0
DISK_TICK_S = 15.0
AUDIT_TICK_S = 5.0
DELIVERY_TICK_S = 2.0
COMMITMENT_TICK_S = 5.0
CHECK_TICK_S = 10.0
NOTICE_TICK_S = 1.0
OUTDATED_TICK_S = 60.0
TICKS_PER_PERIOD = 4  # how many times to look within a period of the settings


@dataclass(frozen=True, slots=True)
class Schedule:
    """All periodic work.

    Attributes
    ----------
    pipeline_digest
        Returns the digest for which jobs are queued; called again while it raises.
    owner
        Name under which deliveries are leased.
    """

    store: Store
    settings: Settings
    rules: Rules
    pipeline_digest: Callable[[], str]
    owner: str
    clock: Callable[[], datetime]
    monotonic: Callable[[], float] = time.monotonic

    def ticks(self, *, must_stop: Callable[[], bool]) -> list[Tick]:
        """Return the ticks; a delivery tick ends after its current batch once ``must_stop`` returns True."""
        settings = self.settings
        return [
            Tick("quiet-series", self._series_tick(), _tick_s(settings.series.quiet_s)),
            Tick("conflicts", partial(compare_due, self.store, self.clock), STUDY_TICK_S),
            Tick("due-studies", self._judge_due_studies, STUDY_TICK_S),
            Tick("leases", self._lease_tick(), _tick_s(settings.work.lease_s)),
            Tick("retention", partial(self._delete, delete_sources), RETENTION_TICK_S),
            Tick("disk-space", partial(self._delete, relieve_disk), DISK_TICK_S),
            Tick("commitment-requests", self._forget_requests, RETENTION_TICK_S),
            Tick("old-moves", self._forget_moves, RETENTION_TICK_S),
            Tick("audit-chain", AuditSealer(self.store).seal, AUDIT_TICK_S),
            *self._syslog_ticks(must_stop),
            *(self._delivery_tick(peer, must_stop) for peer in settings.peers),
            *(self._check_tick(peer, must_stop) for peer in settings.peers if peer.verify_counts),
            *(self._commitment_tick(peer, must_stop) for peer in settings.peers if asks_for_commitment(peer)),
            *self._notice_ticks(must_stop),
        ]

    def _series_tick(self) -> Callable[[], None]:
        settings = self.settings
        by_name = {peer.name: peer for peer in settings.peers}
        patience = Patience(settings.series.quiet_s, settings.series.max_wait_s)
        peers = PeerCounts(
            [by_name[name] for name in settings.series.ask_peers],
            partial(count_instances, calling_ae_title=settings.node.ae_title),
        )
        witnesses = Witnesses(self.store, peers, quiet_s=patience.quiet_s)
        forward_to = tuple(peer.name for peer in settings.peers if peer.forward_sources)
        steps = ClockSteps(self.clock, self.monotonic)
        pipeline_digest = functools.cache(self.pipeline_digest)  # exceptions are not cached

        def look() -> None:
            now = self.clock()
            if count_as_arrived_after_step(self.store, now=now, step_s=steps.pending_s()):
                witnesses.forget()
            steps.handled()
            try:
                digest = pipeline_digest()
            except Exception as error:
                if classify(error) is not ErrorKind.REFUSED:
                    raise
                reason = f"the models cannot be used: {error}"
                hold_quiet_series(self.store, reason, quiet_s=patience.quiet_s, now=now)
                return
            start_over_jobs(self.store, pipeline_digest=digest, now=now)
            policy = RoutingPolicy(self.rules, settings.deliver_to, digest, forward_to)
            complete_quiet_series(self.store, policy, witnesses, patience=patience, now=now)

        return look

    def _judge_due_studies(self) -> None:
        """Judge due studies, withdraw exports of those that may no longer leave, and settle key object documents.

        They wait if the models cannot be described, because a verdict may be outdated.
        """
        try:
            digest = self.pipeline_digest()
        except Exception as error:
            if classify(error) is not ErrorKind.REFUSED:
                raise
            return
        judge_due_studies(self.store, self.rules, pipeline_digest=digest, now=self.clock())
        rules = self.rules.study
        withdraw_exports(self.store, gate_digest(rules, digest), rules, self.clock())
        takers = [peer.name for peer in self.settings.peers if "kos" in peer.results]
        settle_key_objects(self.store, KeyObjectPolicy(rules, digest, takers), now=self.clock())

    def _lease_tick(self) -> Callable[[], None]:
        work, delivery = self.settings.work, self.settings.delivery
        policy = LeasePolicy(work.lease_s, max(MAX_BACKOFF_S, delivery.max_backoff_s), work.max_attempts)
        steps = ClockSteps(self.clock, self.monotonic)

        def look() -> None:
            now = self.clock()
            correct_times(self.store, policy, now=now, step_s=steps.pending_s())
            steps.handled()
            expire_leases(self.store, self.rules.study, max_attempts=policy.max_attempts, now=now)

        return look

    def _delete(self, delete: Callable[..., int]) -> None:
        policy, now = self.settings.retention, self.clock()
        delete(self.store, policy, now=now, committing_peers=committing_peers(self.settings))

    def _syslog_ticks(self, must_stop: Callable[[], bool]) -> list[Tick]:
        settings = self.settings
        if settings.audit.syslog is None:
            return []
        forwarder = AuditForwarder(self.store, settings.audit, source=settings.node.ae_title, must_stop=must_stop)
        return [self._alone(Tick("audit-syslog", forwarder.forward, AUDIT_TICK_S))]

    def _forget_moves(self) -> None:
        self.store.moves.forget(self.clock() - timedelta(days=self.settings.query_retrieve.keep_moves_days))

    def _forget_requests(self) -> None:
        forget_requests(self.store, self.settings.commitment, now=self.clock())

    def _delivery_tick(self, peer: Peer, must_stop: Callable[[], bool]) -> Tick:
        settings = self.settings
        outbox = Outbox(
            self.store,
            peer,
            partial(deliver, calling_ae_title=settings.node.ae_title, timeout_s=settings.delivery.timeout_s),
            RetryPolicy(settings.delivery.max_attempts, settings.delivery.backoff_s, settings.delivery.max_backoff_s),
            lease_s=settings.work.lease_s,
            owner=self.owner,
            clock=self.clock,
        )
        return Tick(f"deliver-{peer.name}", partial(outbox.deliver_due, must_stop=must_stop), DELIVERY_TICK_S)

    def _check_tick(self, peer: Peer, must_stop: Callable[[], bool]) -> Tick:
        count = partial(count_instances, calling_ae_title=self.settings.node.ae_title)
        check = DeliveryCheck(self.store, peer, count, self.clock)
        return self._alone(Tick(f"count-{peer.name}", partial(check.check_due, must_stop=must_stop), CHECK_TICK_S))

    def _commitment_tick(self, peer: DimsePeer, must_stop: Callable[[], bool]) -> Tick:
        settings = self.settings
        self.store.commitments.enroll(peer.name, self.clock())
        request = partial(
            request_commitment,
            calling_ae_title=settings.node.ae_title,
            timeout_s=settings.delivery.timeout_s,
            wait_s=settings.commitment.wait_s,
        )
        desk = CommitmentDesk(self.store, peer, settings.commitment, request, self.clock)
        return self._alone(Tick(f"commit-{peer.name}", partial(desk.ask_due, must_stop=must_stop), COMMITMENT_TICK_S))

    def _alone(self, tick: Tick) -> Tick:
        """Have a tick that tells or asks others without a claim run on one host at a time."""

        def look() -> None:
            with self.store.turn(tick.name) as is_ours:
                if is_ours:
                    tick.look()

        return replace(tick, look=look)

    def _notice_ticks(self, must_stop: Callable[[], bool]) -> list[Tick]:
        """Return the ticks that announce states of studies and tell them; a target that is away delays no other."""
        standings = Standings(self.rules.study, self.pipeline_digest)
        names = [target.name for target in self.settings.notify]

        def announce() -> None:
            announce_states(self.store, standings, names, now=self.clock())

        return [
            Tick("outdated-states", partial(mark_outdated_states, self.store, standings, names), OUTDATED_TICK_S),
            Tick("announcements", announce, NOTICE_TICK_S),
            *(self._notice_tick(target, standings, names, must_stop) for target in self.settings.notify),
        ]

    def _notice_tick(
        self, target: Target, standings: Standings, names: list[str], must_stop: Callable[[], bool]
    ) -> Tick:
        delivery = self.settings.delivery
        outbox = NoticeOutbox(
            self.store,
            target,
            partial(tell, node_ae_title=self.settings.node.ae_title),
            standings,
            names,
            RetryPolicy(delivery.max_attempts, delivery.backoff_s, delivery.max_backoff_s),
            lease_s=min(self.settings.work.lease_s, MAX_LEASE_S),
            owner=self.owner,
            clock=self.clock,
        )
        return Tick(f"notify-{target.name}", partial(outbox.tell_due, must_stop=must_stop), NOTICE_TICK_S)


def asks_for_commitment(peer: Peer) -> TypeGuard[DimsePeer]:
    """Return whether the settings ask this peer for storage commitment."""
    return isinstance(peer, DimsePeer) and peer.commitment


def committing_peers(settings: Settings) -> list[str]:
    """Return the names of the peers for whose storage commitment retention waits."""
    return [peer.name for peer in settings.peers if asks_for_commitment(peer)]


def _tick_s(period_s: float) -> float:
    """Return how often to look for something that happens after ``period_s``."""
    return min(period_s / TICKS_PER_PERIOD, MAX_TICK_S)

"""Send results to one peer: claim due deliveries, send them together, and record each answer.

Each peer has a tick of its own, so a peer that does not answer does not delay others. A delivery can happen twice:
if the node is killed after the peer's answer and before recording it, the peer gets the same object again, under
the same SOP Instance UID with the same bytes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from dicom_node.failures import classify, error_code
from dicom_node.peers import ObjectToSend, SendOutcome
from dicom_node.peers.errors import ContextRefusedError, StoreFailedForNowError, StoreRefusedError
from dicom_node.pipeline.heartbeat import Heartbeat
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.store import DeliveryRow, JobState, LeaseLostError, Store, StoreError
from dicom_node.upper_layer.command_set import MoveOriginator

log = logging.getLogger(__name__)

MAX_STRAYS = 10_000  # at most so many are checked when the node starts


_ANSWERS = (ContextRefusedError, StoreRefusedError, StoreFailedForNowError)  # from a peer that was asked


class Send(Protocol):
    """Sends objects to a peer; `dicom_node.peers.deliver` with the node's own AE title."""

    def __call__(self, peer: DimsePeer | DicomwebPeer, objects: Sequence[ObjectToSend], /) -> tuple[SendOutcome, ...]:
        """Send objects and return the outcome for each, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Outbox:
    """The deliveries of one peer."""

    store: Store
    peer: DimsePeer | DicomwebPeer
    send: Send
    retry: RetryPolicy
    lease_s: float
    owner: str
    clock: Callable[[], datetime]
    known_contexts: dict[tuple[str, str], bool] = field(default_factory=dict)  # answers that are recorded already

    def deliver_due(self, *, must_stop: Callable[[], bool]) -> int:
        """Send due deliveries in batches until none is left or ``must_stop``; return how many arrived."""
        n_delivered = 0
        while not must_stop():
            batch = self.store.deliveries.claim_due(self.owner, self.clock(), self.lease_s, peer=self.peer.name)
            if not batch:
                break
            n_delivered += self._deliver(batch)
        return n_delivered

    def _deliver(self, batch: Sequence[DeliveryRow]) -> int:
        ready = [delivery for delivery in batch if self._is_sound(delivery)]
        if not ready:
            return 0
        objects = [
            ObjectToSend(
                delivery.sop_class_uid,
                delivery.sop_instance_uid,
                delivery.transfer_syntax_uid,
                partial(self.store.objects.open, delivery.digest),
                _originator(delivery),
            )
            for delivery in ready
        ]
        with Heartbeat(partial(self._extend, ready), lease_s=self.lease_s):
            try:
                outcomes = self.send(self.peer, objects)
            except Exception as error:
                log.exception("delivery failed", extra={"peer": self.peer.name, "n_objects": len(objects)})
                for delivery in ready:
                    self._note_failure(delivery, error)
                return 0
            for delivery, outcome in zip(ready, outcomes, strict=True):
                self._note(delivery, outcome)
            self._note_contexts(ready, outcomes)
        return sum(outcome.is_delivered for outcome in outcomes)

    def _note_contexts(self, sent: Sequence[DeliveryRow], outcomes: Sequence[SendOutcome]) -> None:
        """Remember which encodings a DIMSE peer accepts, as far as that has changed."""
        if not isinstance(self.peer, DimsePeer):
            return
        answers = {}
        for delivery, outcome in zip(sent, outcomes, strict=True):
            if outcome.error is None or isinstance(outcome.error, _ANSWERS):
                is_accepted = not isinstance(outcome.error, ContextRefusedError)
                answers[delivery.sop_class_uid, delivery.transfer_syntax_uid] = is_accepted
        news = {
            context: accepted for context, accepted in answers.items() if self.known_contexts.get(context) != accepted
        }
        if news:
            self.store.peer_contexts.note(self.peer.name, news, self.clock())
            self.known_contexts.update(news)

    def _is_sound(self, delivery: DeliveryRow) -> bool:
        try:
            self.store.objects.check(delivery.digest)
        except StoreError as error:
            self._note_failure(delivery, error)
            return False
        return True

    def _extend(self, batch: Sequence[DeliveryRow]) -> bool:
        now = self.clock()
        kept = [self.store.deliveries.heartbeat(delivery.id, self.owner, now, self.lease_s) for delivery in batch]
        return any(kept)

    def _note(self, delivery: DeliveryRow, outcome: SendOutcome) -> None:
        if outcome.error is not None:
            self._note_failure(delivery, outcome.error)
            return
        try:
            is_to_be_committed = isinstance(self.peer, DimsePeer) and self.peer.commitment
            self.store.deliveries.succeed(
                delivery.id,
                self.owner,
                self.clock(),
                is_to_be_committed=is_to_be_committed,
                is_to_be_counted=self.peer.verify_counts,
            )
        except LeaseLostError:
            log.warning("lease of the delivery lost, although the peer has the object", extra=_fields(delivery))
            return
        log.info("delivered", extra={**_fields(delivery), "warning_status": outcome.warning_status})

    def _note_failure(self, delivery: DeliveryRow, error: Exception) -> None:
        kind = classify(error)
        code = error_code(error)
        now = self.clock()
        retry_at = self.retry.retry_at(kind, delivery.attempt_number, now)
        message = str(error) if code != "internal" else f"{type(error).__name__}, a defect of the node; see its log"
        try:
            state = self.store.deliveries.fail(
                delivery.id, self.owner, code=code, message=message, retry_at=retry_at, now=now
            )
        except LeaseLostError:
            log.warning("lease of the delivery lost, its failure is dropped", extra={**_fields(delivery), "code": code})
            return
        log.warning(
            "not delivered: %s",
            message,
            extra={
                **_fields(delivery),
                "code": code,
                "state": state.value,
                "retry_at": retry_at and retry_at.isoformat(),
            },
        )


def warn_about_strays(store: Store, peer_names: Collection[str]) -> None:
    """Warn about deliveries to peers that the settings do not name; they wait until the peer is configured."""
    waiting = store.deliveries.list(states=[JobState.QUEUED, JobState.WAITING], limit=MAX_STRAYS)
    for name, n_waiting in sorted(Counter(delivery.peer for delivery in waiting).items()):
        if name not in peer_names:
            log.warning(
                "deliveries wait for a peer that the settings do not name; add it or cancel them",
                extra={"peer": name, "n_deliveries": n_waiting},
            )


def _originator(delivery: DeliveryRow) -> MoveOriginator | None:
    if delivery.move_originator is None or delivery.move_message_id is None:
        return None
    return MoveOriginator(delivery.move_originator, delivery.move_message_id)


def _fields(delivery: DeliveryRow) -> dict[str, object]:
    """Return the fields of every log line about a delivery."""
    return {
        "delivery_id": delivery.id,
        "job_id": delivery.job_id,
        "peer": delivery.peer,
        "sop_instance_uid": delivery.sop_instance_uid,
        "attempt_number": delivery.attempt_number,
    }

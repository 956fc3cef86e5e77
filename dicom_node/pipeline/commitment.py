"""Ask one peer to commit to what it accepted, until it does (storage commitment, PS3.4 annex J)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dicom_node.peers import Refusal, RequestLog
from dicom_node.peers.errors import CommitmentNotOfferedError, DeliveryError
from dicom_node.settings import CommitmentSettings, DimsePeer
from dicom_node.store import CommitmentState, DeliveryRow, Store
from dicom_node.upper_layer.commitment import STORAGE_COMMITMENT, TRANSFER_SYNTAXES, CommitmentReport

log = logging.getLogger(__name__)

UID_ROOT = "2.25."  # UUIDs as UIDs (PS3.5 B.2)
RETRY_S = 300.0  # after a request that did not reach the peer, or whose answer is lost


class RequestCommitment(Protocol):
    """Sends one request; `dicom_node.peers.request_commitment` with AE title and times."""

    def __call__(
        self,
        peer: DimsePeer,
        transaction_uid: str,
        instances: Sequence[tuple[str, str]],
        request_log: RequestLog,
        /,
        *,
        must_stop: Callable[[], bool],
    ) -> Refusal | None:
        """Ask a peer to commit to instances; return how it refuses, or None if it will report."""
        ...


@dataclass(frozen=True, slots=True)
class CommitmentDesk:
    """What one peer is asked to commit to."""

    store: Store
    peer: DimsePeer
    settings: CommitmentSettings
    request: RequestCommitment
    clock: Callable[[], datetime]

    def ask_due(self, *, must_stop: Callable[[], bool]) -> int:
        """Ask for what is due, in requests of bounded size; return the number of requests that the peer accepted."""
        commitments = self.store.commitments
        n_given_up = commitments.give_up(self.peer.name, self.clock(), max_requests=self.settings.max_requests)
        if n_given_up:
            log.error("peer does not commit; a person has to decide", extra=self._fields(n_instances=n_given_up))
        n_requests = 0
        while not must_stop():
            due = commitments.due(self.peer.name, self.clock(), limit=self.settings.max_instances)
            if not due or not self._ask(due, must_stop):
                break
            n_requests += 1
        return n_requests

    def _ask(self, asked: Sequence[DeliveryRow], must_stop: Callable[[], bool]) -> bool:
        """Send one request; return False if the next one would meet the same trouble."""
        transaction_uid = f"{UID_ROOT}{uuid.uuid4().int}"
        instances = list(dict.fromkeys((one.sop_class_uid, one.sop_instance_uid) for one in asked))
        request_log = _RequestLog(self, transaction_uid, asked)
        commitments = self.store.commitments
        try:
            refusal = self.request(self.peer, transaction_uid, instances, request_log, must_stop=must_stop)
        except CommitmentNotOfferedError as error:
            self._note_offer(is_offered=False)
            again_at = self._after(self.settings.ask_again_s)
            commitments.postpone(asked, state=CommitmentState.NOT_OFFERED, reason=str(error), ask_again_at=again_at)
            log.warning("storage commitment not offered: %s", error, extra=self._fields(n_instances=len(asked)))
            return False
        except DeliveryError as error:
            if not request_log.is_prepared:  # else the peer may have got it, and its report still counts
                again_at = self._after(RETRY_S)
                commitments.postpone(asked, state=CommitmentState.DUE, reason=str(error), ask_again_at=again_at)
            log.warning("storage commitment not requested: %s", error, extra=self._fields(n_instances=len(asked)))
            return False
        self._note_offer(is_offered=True)
        commitments.note_answer(
            transaction_uid,
            refusal=None if refusal is None else str(refusal),
            ask_again_at=self._after(self.settings.ask_again_s),
        )
        fields = self._fields(n_instances=len(asked))
        if refusal is not None:
            log.warning("storage commitment refused: %s", refusal, extra=fields)
            return False
        log.info("storage commitment requested", extra=fields)
        return True

    def _note_offer(self, *, is_offered: bool) -> None:
        self.store.peer_contexts.note(
            self.peer.name, {(STORAGE_COMMITMENT, TRANSFER_SYNTAXES[0]): is_offered}, self.clock()
        )

    def _after(self, wait_s: float) -> datetime:
        return self.clock() + timedelta(seconds=wait_s)

    def _fields(self, **fields: object) -> dict[str, object]:
        return {"peer": self.peer.name, **fields}


def forget_requests(store: Store, settings: CommitmentSettings, *, now: datetime) -> int:
    """Delete the records of requests that are older than the settings keep them; return their number."""
    n_requests = store.commitments.forget_requests(now - timedelta(days=settings.keep_requests_days), now)
    if n_requests:
        log.info("old requests for storage commitment deleted", extra={"n_requests": n_requests})
    return n_requests


class _RequestLog:
    """Records one request and the reports on the association on which it was sent."""

    def __init__(self, desk: CommitmentDesk, transaction_uid: str, asked: Sequence[DeliveryRow]) -> None:
        self._desk = desk
        self._transaction_uid = transaction_uid
        self._asked = asked
        self.is_prepared = False

    def prepare(self) -> None:
        now = self._desk.clock()
        self._desk.store.commitments.prepare(
            self._transaction_uid,
            self._desk.peer.name,
            self._asked,
            now=now,
            ask_again_at=now + timedelta(seconds=RETRY_S),
        )
        self.is_prepared = True

    def take(self, report: CommitmentReport) -> bool:
        desk = self._desk
        taken = desk.store.commitments.take_report(
            report.transaction_uid,
            [desk.peer.name],
            committed=report.committed,
            failed=report.failed,
            now=desk.clock(),
        )
        fields: dict[str, object] = {"peer": desk.peer.name}
        if taken is None:
            log.warning("report on storage commitment refused: its transaction is unknown", extra=fields)
            return False
        level = logging.WARNING if taken.n_failed or taken.n_unmentioned else logging.INFO
        counts = {name: getattr(taken, name) for name in ("n_asked", "n_committed", "n_failed", "n_unmentioned")}
        log.log(level, "peer reports on storage commitment", extra=fields | counts)
        return True

    def is_reported(self) -> bool:
        return self._desk.store.commitments.is_reported(self._transaction_uid)

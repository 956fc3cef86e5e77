"""C-MOVE: have instances sent to a peer, and say how far that is (PS3.4 C.4.2).

The instances become deliveries of the outbox, which the process `schedule` sends, retries and counts like all others;
`deliveries list` shows them. A delivery that fails for now is tried again while the request waits. When it has waited
long enough without an instance arriving, what is left counts as failed in its answer; the outbox goes on trying.
If the peer that asks goes away, the deliveries stay.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.query.counts import MAX_LIST_CHARACTERS, Counts, last_answer
from dicom_node.dimse.query.retrieve_service import RetrieveService
from dicom_node.dimse.query.status import QueryStatus
from dicom_node.dimse.status import Answer
from dicom_node.store.work.moves import MoveProgress
from dicom_node.upper_layer.command_set import Request

LOOK_S: Final = 0.5  # between two looks at the outbox
SAY_S: Final = 5.0  # a peer hears something at least so often
# A peer that takes an object forever, piece by piece, is being sent to all the time.
LONGEST_WAITS: Final = 10
MAX_FAILED_UIDS: Final = MAX_LIST_CHARACTERS // 8


class MoveService(RetrieveService):
    """Answers the C-MOVE requests of one association."""

    def perform(self, context: AcceptedContext, request: Request, encoded: bytes) -> Answer:
        """Queue the instances, wait for them, and return the last answer."""
        identifier, found = self.find(context, encoded)
        peer = self.policy.destination(request.move_destination)
        if peer is None:
            what = "Move Destination is the AE title of no peer that may retrieve"
            return self.refused(Answer(QueryStatus.DESTINATION_UNKNOWN, what))
        if found.has_more:
            return self.too_many()
        move_id, n_queued = self.store.moves.queue(
            found.ids,
            peer=peer.name,
            originator=str(self.fields.get("calling_ae_title", "")),
            message_id=request.message_id,
            now=self.store.now(),
        )
        progress, is_cancelled = self._await(context, request, move_id)
        n_deleted = len(found) - n_queued
        if is_cancelled:
            n_left = progress.n_failed + progress.n_open
            counts = Counts(n_left + n_deleted, progress.n_delivered)
        else:
            counts = Counts(0, progress.n_delivered, progress.n_failed + progress.n_open + n_deleted)
        reasons = Counter(self.store.moves.reasons(move_id))
        failed = self.store.moves.undelivered(move_id, limit=MAX_FAILED_UIDS)
        answer = last_answer(
            counts,
            failed,
            context.transfer_syntax_uid,
            is_cancelled=is_cancelled,
            comment="" if is_cancelled else _comment(counts, progress, reasons),
        )
        self.note_end(f"C-MOVE to peer {peer.name}", identifier, counts, answer, reasons)
        return answer

    def _await(self, context: AcceptedContext, request: Request, move_id: str) -> tuple[MoveProgress, bool]:
        """Wait until everything has ended, or nothing arrives any more; return how far it is, and whether cancelled."""
        wait_s = self.policy.settings.move_wait_s
        changed_at = said_at = time.monotonic()
        before: MoveProgress | None = None
        is_cancelled = False
        while True:
            progress = self.store.moves.progress(move_id)
            if is_cancelled and progress.is_waiting:  # what was being sent has failed, and would be tried again
                self.store.moves.cancel(move_id, self.store.now())
                progress = self.store.moves.progress(move_id)
            now = time.monotonic()
            if before is None or (progress.n_open, progress.n_failed) != (before.n_open, before.n_failed):
                changed_at = now
            if not progress.n_open:
                return progress, is_cancelled
            quiet_s = now - changed_at
            has_stopped = not progress.is_sending and not is_cancelled
            if quiet_s > wait_s and (has_stopped or quiet_s > LONGEST_WAITS * wait_s):
                return progress, is_cancelled
            if changed_at == now or now - said_at > SAY_S:
                counts = Counts(progress.n_open, progress.n_delivered, progress.n_failed)
                self.exchange.send_pending(context.context_id, request, counts.pending())
                self.exchange.flush()
                said_at = now
            before = progress
            self.exchange.wait(LOOK_S)
            if not is_cancelled and self.exchange.is_cancelled(request):
                is_cancelled = True
                self.store.moves.cancel(move_id, self.store.now())


def _comment(counts: Counts, progress: MoveProgress, reasons: Counter[str]) -> str:
    """Return why instances were not sent, in the 64 characters of an Error Comment."""
    if not counts.failed:
        return ""
    why = f": {reasons.most_common(1)[0][0]}" if reasons else ""
    going_on = f"; {progress.n_open} will be tried again" if progress.n_open else ""
    return f"{counts.failed} not sent{why}{going_on}"

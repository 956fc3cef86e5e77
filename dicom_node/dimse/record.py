"""What the audit trail has of an association: one entry at its end, whatever was sent over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from dicom_node.access.seldom import Due, Seldom
from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.messages import BeginOperation, Operation
from dicom_node.dimse.status import Answer
from dicom_node.store import Store
from dicom_node.upper_layer.associate import AssociationRequest, Rejection
from dicom_node.upper_layer.command_set import CommandField, Request

QUIET_PERIOD_S: Final = 3600.0  # between two entries on associations of a host that only carried C-ECHO
REFUSAL_PERIOD_S: Final = 60.0  # between two entries on the same rejection of a host, or on what it gets refused
# Entries in an hour, of each of the two kinds; AE titles can be made up. What is beyond is counted in ``others``.
MAX_OF_HOST: Final = 60
MAX_IN_ALL: Final = 600
_NAMES: Final[Mapping[int, str]] = {
    CommandField.C_STORE_RQ: "C-STORE",
    CommandField.C_FIND_RQ: "C-FIND",
    CommandField.C_GET_RQ: "C-GET",
    CommandField.C_MOVE_RQ: "C-MOVE",
    CommandField.C_ECHO_RQ: "C-ECHO",
    CommandField.N_EVENT_REPORT_RQ: "N-EVENT-REPORT",
}
_FINE: Final = frozenset({0x0, 0xB, 0xF})  # first digit of success, warning, and pending or cancelled (PS3.7 annex C)


class Seen:
    """What one server has recorded lately."""

    def __init__(self) -> None:
        self.quiet = Seldom(QUIET_PERIOD_S, max_of_source=MAX_OF_HOST, max_in_all=MAX_IN_ALL)
        self.refused = Seldom(REFUSAL_PERIOD_S, max_of_source=MAX_OF_HOST, max_in_all=MAX_IN_ALL)


class AssociationRecord:
    """Counts the messages of one association, and records it when it has ended.

    Parameters
    ----------
    host
        Address of the peer.
    """

    def __init__(self, store: Store, seen: Seen, host: str, clock: Callable[[], datetime]) -> None:
        self._store, self._seen, self._host, self._clock = store, seen, host, clock
        self._began_s = time.monotonic()
        self._tallies: dict[str, Tally] = {}

    def counting(self, operations: Mapping[int, BeginOperation]) -> dict[int, BeginOperation]:
        """Return the operations of an association, whose answers are counted."""
        return {field: self._counted(_NAMES.get(field, f"{field:04X}"), begin) for field, begin in operations.items()}

    def _used(self) -> dict[str, Tally]:
        return {name: tally for name, tally in self._tallies.items() if tally.n_answered}

    def rejected(self, request: AssociationRequest, rejection: Rejection) -> None:
        """Record that an association was rejected."""
        due = self._seen.refused.count((rejection, self._host), time.monotonic(), source=self._host)
        if due is not None:
            detail = {"reason": rejection.in_words, "called": request.called_ae_title, "times": due.times, **due.detail}
            self._note("association-rejected", request.calling_ae_title, self._host, detail)

    def ended(self, request: AssociationRequest, association_id: str, outcome: str) -> None:
        """Record that an association has ended."""
        used = self._used()
        failed = {name: tally.n_failed for name, tally in used.items() if tally.n_failed}
        due = self._due(request.calling_ae_title, used, failed)
        if due is None:
            return
        detail = {
            "address": self._host,
            "called": request.called_ae_title,
            "outcome": outcome,
            "seconds": round(time.monotonic() - self._began_s, 1),
            **({"answered": {name: tally.n_answered for name, tally in used.items()}} if used else {}),
            **({"failed": failed} if failed else {}),
            **due.detail,
        }
        self._note("association", request.calling_ae_title, association_id, detail)

    def _due(self, title: str, used: Mapping[str, Tally], failed: Mapping[str, int]) -> Due | None:
        """Return whether to record an association: always if more than C-ECHO succeeded, else seldom."""
        now_s = time.monotonic()
        asked = {name: tally for name, tally in used.items() if name != "C-ECHO"}
        if not asked:
            return self._seen.quiet.count((title, self._host), now_s, source=self._host)
        if all(tally.n_answered == tally.n_failed for tally in asked.values()):
            return self._seen.refused.count((title, self._host, *failed), now_s, source=self._host)
        return Due(1)

    def _note(self, action: str, actor: str, subject: str, detail: Mapping[str, object]) -> None:
        self._store.audit_buffer.note(action, actor=actor, subject=subject, now=self._clock(), detail=detail)

    def _counted(self, name: str, begin: BeginOperation) -> BeginOperation:
        tally = self._tallies[name] = Tally()

        def begin_counted(context: AcceptedContext, request: Request) -> Operation:
            return _Counted(begin(context, request), tally)

        return begin_counted


class Tally:
    """How many requests of one kind were answered, and how many of these with a failure."""

    __slots__ = ("n_answered", "n_failed")

    def __init__(self) -> None:
        self.n_answered = self.n_failed = 0


class _Counted:
    """An operation whose answer is counted; fragments go to it directly, because there are many."""

    __slots__ = ("_finish", "_tally", "discard", "write")

    def __init__(self, operation: Operation, tally: Tally) -> None:
        self._finish, self._tally = operation.finish, tally
        self.write: Callable[[memoryview], None] = operation.write
        self.discard: Callable[[], None] = operation.discard

    def finish(self) -> Answer:
        answer = self._finish()
        self._tally.n_answered += 1
        if answer.status and answer.status >> 12 not in _FINE:
            self._tally.n_failed += 1
        return answer

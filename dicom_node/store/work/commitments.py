"""Storage commitment: what to ask which peer, and what peers report (PS3.4 annex J).

The transaction is written before the peer is asked, because its report may arrive before its answer. Every request
has a Transaction UID of its own; a report counts whenever it arrives, also for a request that was repeated since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import commitment_items, commitment_requests, commitments, deliveries
from dicom_node.store.states import CommitmentState, JobState
from dicom_node.store.work.delivery_queries import SELECT_DELIVERIES, delivery_row_of
from dicom_node.store.work.delivery_rows import DeliveryRow
from dicom_node.store.work.old_requests import delete_old_requests

COMMITTED, FAILED = "committed", "failed"  # outcomes of an item
PREPARED, SENT, REFUSED, REPORTED = "prepared", "sent", "refused", "reported"  # states of a request
LONGEST_WAIT = timedelta(days=30)  # a time beyond that was written before the clock was set back
REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance conflict",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
"""Meanings of Failure Reason (0008,1197) in a report (PS3.3 C.14.1.1)."""

SopInstance = tuple[str, str]
"""SOP Class UID and SOP Instance UID."""


@dataclass(frozen=True, slots=True)
class ReportTaken:
    """What a report changed."""

    n_asked: int
    n_committed: int
    n_failed: int

    @property
    def n_unmentioned(self) -> int:
        """Number of instances that were asked for and are in neither list of the report, or in both."""
        return self.n_asked - self.n_committed - self.n_failed


class Commitments:
    """What peers are asked to commit to, and what they report."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enroll(self, peer: str, now: datetime) -> int:
        """Have a peer asked about all that it accepted before it was set to be asked; return the number."""
        statement = sa.select(deliveries.c.id).where(
            deliveries.c.peer == peer,
            deliveries.c.state == JobState.SUCCEEDED.value,
            deliveries.c.replaced_by_id.is_(None),
            ~sa.select(commitments.c.delivery_id).where(commitments.c.delivery_id == deliveries.c.id).exists(),
        )
        with self._database.read() as connection:  # nearly every start finds nothing and needs no write lock
            if connection.execute(statement.limit(1)).first() is None:
                return 0
        values: list[sa.ColumnElement[Any]] = [
            sa.literal(peer), sa.literal(CommitmentState.DUE.value), sa.literal(""), sa.literal(0),
            sa.literal(now, type_=commitments.c.due_at.type),
        ]  # fmt: skip
        into = ["delivery_id", "peer", "state", "reason", "n_requests", "due_at"]
        with self._database.write() as connection:
            return connection.execute(sa.insert(commitments).from_select(into, statement.add_columns(*values))).rowcount

    def due(self, peer: str, now: datetime, *, limit: int) -> tuple[DeliveryRow, ...]:
        """Return deliveries that a peer is to be asked about now, the longest due first; never committed ones."""
        statement = (
            SELECT_DELIVERIES.where(
                commitments.c.peer == peer,
                commitments.c.state != CommitmentState.COMMITTED.value,
                (commitments.c.due_at <= now) | (commitments.c.due_at > now + LONGEST_WAIT),
                deliveries.c.state == JobState.SUCCEEDED.value,
                deliveries.c.replaced_by_id.is_(None),
            )
            .order_by(commitments.c.due_at, deliveries.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(delivery_row_of(row) for row in connection.execute(statement))

    def prepare(
        self, transaction_uid: str, peer: str, asked: Sequence[DeliveryRow], *, now: datetime, ask_again_at: datetime
    ) -> None:
        """Record a request that is about to be sent; without an answer it is repeated at ``ask_again_at``."""
        with self._database.write() as connection:
            connection.execute(
                sa.insert(commitment_requests).values(
                    transaction_uid=transaction_uid, peer=peer, state=PREPARED, requested_at=now
                )
            )
            connection.execute(
                sa.insert(commitment_items),
                [{"transaction_uid": transaction_uid, "delivery_id": delivery.id} for delivery in asked],
            )
            connection.execute(
                _of_request(transaction_uid).values(
                    state=CommitmentState.ASKED.value,
                    reason="",
                    n_requests=commitments.c.n_requests + 1,
                    due_at=ask_again_at,
                )
            )

    def note_answer(self, transaction_uid: str, *, refusal: str | None, ask_again_at: datetime) -> None:
        """Record how the peer answered a request; what its report has already settled is left unchanged.

        Parameters
        ----------
        refusal
            Why the peer does not look at the request; None if it does, and its report is to come.
        """
        with self._database.write() as connection:
            connection.execute(
                sa.update(commitment_requests)
                .where(commitment_requests.c.transaction_uid == transaction_uid)
                .where(commitment_requests.c.state == PREPARED)
                .values(state=SENT if refusal is None else REFUSED)
            )
            connection.execute(_of_request(transaction_uid).values(due_at=ask_again_at))
            if refusal is not None:
                connection.execute(
                    _of_request(transaction_uid)
                    .where(commitments.c.state == CommitmentState.ASKED.value)
                    .values(state=CommitmentState.FAILED.value, reason=refusal)
                )

    def postpone(
        self, asked: Sequence[DeliveryRow], *, state: CommitmentState, reason: str, ask_again_at: datetime
    ) -> None:
        """Record why a request could not be sent, and when to try again."""
        with self._database.write() as connection:
            for delivery in asked:
                connection.execute(
                    _uncommitted(delivery.id).values(state=state.value, reason=reason, due_at=ask_again_at)
                )

    def give_up(self, peer: str, now: datetime, *, max_requests: int) -> int:
        """Ask no more for what is due and was asked for so many times; return its number. A person may ask again."""
        is_over = (
            (commitments.c.peer == peer)
            & (commitments.c.due_at <= now)
            & (commitments.c.n_requests >= max_requests)
            & commitments.c.state.in_([CommitmentState.ASKED.value, CommitmentState.FAILED.value])
        )
        with self._database.read() as connection:  # most calls find nothing and need no write lock
            if connection.execute(sa.select(commitments.c.delivery_id).where(is_over).limit(1)).first() is None:
                return 0
        silent = f"no report on {max_requests} requests"
        reason = sa.case((commitments.c.state == CommitmentState.ASKED.value, silent), else_=commitments.c.reason)
        stop = sa.update(commitments).where(is_over)
        with self._database.write() as connection:
            return connection.execute(
                stop.values(state=CommitmentState.FAILED.value, reason=reason, due_at=None)
            ).rowcount

    def is_reported(self, transaction_uid: str) -> bool:
        """Return whether the report on a request has arrived."""
        statement = sa.select(commitment_requests.c.reported_at).where(
            commitment_requests.c.transaction_uid == transaction_uid
        )
        with self._database.read() as connection:
            return connection.execute(statement).scalar_one_or_none() is not None

    def take_report(
        self,
        transaction_uid: str,
        peers: Collection[str],
        *,
        committed: Collection[SopInstance],
        failed: Mapping[SopInstance, int | None],
        now: datetime,
    ) -> ReportTaken | None:
        """Record a peer's report; return None, with nothing changed, if none of ``peers`` was asked this.

        Only what was asked for counts, and only if it is in exactly one list. What is committed stays so.
        """
        request = sa.select(commitment_requests.c.peer).where(
            commitment_requests.c.transaction_uid == transaction_uid, commitment_requests.c.peer.in_(peers)
        )
        items = (
            sa.select(deliveries.c.id, deliveries.c.sop_class_uid, deliveries.c.sop_instance_uid)
            .join_from(commitment_items, deliveries, deliveries.c.id == commitment_items.c.delivery_id)
            .where(commitment_items.c.transaction_uid == transaction_uid)
        )
        with self._database.write() as connection:
            if connection.execute(request).first() is None:
                return None
            asked: defaultdict[SopInstance, list[int]] = defaultdict(list)  # one may have been sent twice
            for row in connection.execute(items):
                asked[row.sop_class_uid, row.sop_instance_uid].append(row.id)
            good = [number for one in committed if one not in failed for number in asked.get(one, ())]
            bad = {
                number: reason
                for one, reason in failed.items()
                if one not in committed
                for number in asked.get(one, ())
            }
            _note_items(connection, transaction_uid, good, bad)
            for delivery_id in good:
                connection.execute(
                    _uncommitted(delivery_id).values(
                        state=CommitmentState.COMMITTED.value, reason="", due_at=None, committed_at=now
                    )
                )
            for delivery_id, reason in bad.items():
                connection.execute(
                    _uncommitted(delivery_id).values(state=CommitmentState.FAILED.value, reason=words_of(reason))
                )
            connection.execute(
                sa.update(commitment_requests)
                .where(commitment_requests.c.transaction_uid == transaction_uid)
                .values(state=REPORTED, reported_at=now)
            )
        return ReportTaken(sum(map(len, asked.values())), len(good), len(bad))

    def ask_again(self, delivery_id: int, now: datetime) -> bool:
        """Have the peer asked again now, as often as at first; return False if it is not asked, or has committed."""
        again = _uncommitted(delivery_id).values(state=CommitmentState.DUE.value, n_requests=0, due_at=now)
        with self._database.write() as connection:
            return connection.execute(again).rowcount == 1

    def forget_requests(self, before: datetime, now: datetime) -> int:
        """Delete requests sent before a time, except those whose report may still come; return their number.

        What peers have committed to stays recorded, and what was deleted is in the audit trail.
        """
        with self._database.read() as connection:  # nearly every call finds nothing and needs no write lock
            oldest = connection.execute(sa.select(sa.func.min(commitment_requests.c.requested_at))).scalar()
        n_requests = 0
        while oldest is not None and oldest <= before:
            with self._database.write() as connection:
                n_deleted = delete_old_requests(connection, before, now)
            n_requests += n_deleted
            if not n_deleted:
                break
        return n_requests

    def counts(self) -> dict[str, dict[CommitmentState, int]]:
        """Return the number of deliveries in each state, for each peer; replaced ones are left out."""
        statement = (
            sa.select(commitments.c.peer, commitments.c.state, sa.func.count())
            .join(deliveries, deliveries.c.id == commitments.c.delivery_id)
            .where(deliveries.c.replaced_by_id.is_(None))
            .group_by(commitments.c.peer, commitments.c.state)
            .order_by(commitments.c.peer, commitments.c.state)
        )
        found: dict[str, dict[CommitmentState, int]] = {}
        with self._database.read() as connection:
            for peer, state, number in connection.execute(statement):
                found.setdefault(peer, {})[CommitmentState(state)] = number
        return found


def words_of(reason: int | None) -> str:
    """Return a failure reason for people."""
    if reason is None:
        return "failed, and the report has no reason"
    return f"0x{reason:04X} {REASONS.get(reason, 'a reason that is not in the standard')}"


def _of_request(transaction_uid: str) -> sa.Update:
    """Change the commitments that a request asks for, unless they are committed."""
    of_request = sa.select(commitment_items.c.delivery_id).where(commitment_items.c.transaction_uid == transaction_uid)
    return sa.update(commitments).where(
        commitments.c.delivery_id.in_(of_request), commitments.c.state != CommitmentState.COMMITTED.value
    )


def _uncommitted(delivery_id: int) -> sa.Update:
    return sa.update(commitments).where(
        commitments.c.delivery_id == delivery_id, commitments.c.state != CommitmentState.COMMITTED.value
    )


def _note_items(
    connection: sa.Connection, transaction_uid: str, good: Sequence[int], bad: Mapping[int, int | None]
) -> None:
    outcomes: dict[int, tuple[str, int | None]] = dict.fromkeys(good, (COMMITTED, None))
    outcomes |= {delivery_id: (FAILED, reason) for delivery_id, reason in bad.items()}
    for delivery_id, (outcome, reason) in outcomes.items():
        connection.execute(
            sa.update(commitment_items)
            .where(commitment_items.c.transaction_uid == transaction_uid, commitment_items.c.delivery_id == delivery_id)
            .values(outcome=outcome, failure_reason=reason)
        )

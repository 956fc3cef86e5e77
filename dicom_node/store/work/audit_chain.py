"""The hash chain over the audit trail: what was sealed cannot be changed, removed or inserted unseen.

The digest at a position is the SHA-256 of the digest before it and of the entry. Entries are sealed in batches, some
seconds after they were written, so that no writer waits for another. Somebody who may write to the database could cut
off its end, or compute the whole chain anew; a digest that was noted elsewhere (`audit_head`, `audit verify --head`,
syslog) shows that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import audit, audit_chain, audit_forwarding
from dicom_node.store.work.audit import audit_row
from dicom_node.store.work.audit_head import Head
from dicom_node.store.work.audited_decisions import decision_findings
from dicom_node.store.work.rows import AuditRow

START: Final = "0" * 64
BATCH: Final = 1000
MAX_FINDINGS: Final = 20
# An entry's number is given before its transaction ends, so one may appear after another with a higher number.
_LATE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Sealed:
    """An entry with its place in the chain."""

    position: int
    digest: str
    entry: AuditRow


@dataclass(slots=True)
class ChainReport:
    """What a check of the chain found.

    Attributes
    ----------
    position
        The last one.
    n_sealed, n_unsealed
        Entries in the chain, and those that are too new for it.
    digest
        Of the last position; note it elsewhere.
    findings
        Sentences on what does not fit, at most `MAX_FINDINGS`.
    """

    position: int = 0
    n_sealed: int = 0
    n_unsealed: int = 0
    digest: str = START
    findings: list[str] = field(default_factory=list)

    def note(self, finding: str) -> None:
        """Add a finding, unless there are many."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


class AuditChain:
    """Seals entries, and checks what was sealed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def seal(self) -> int:
        """Append the entries that are not in the chain yet, at most `BATCH`; return how many."""
        with self._database.read() as connection:
            if not connection.execute(_unsealed(connection).limit(1)).first():
                return 0
        with self._database.write() as connection:
            last = connection.execute(_chain().order_by(audit_chain.c.position.desc()).limit(1)).first()
            position, digest = (0, START) if last is None else (int(last.position), str(last.digest))
            rows = connection.execute(_unsealed(connection).limit(BATCH)).all()
            added = []
            for row in rows:
                position += 1
                digest = _digest(digest, position, row)
                added.append({"position": position, "audit_id": row.id, "digest": digest})
            if added:
                connection.execute(sa.insert(audit_chain), added)
        return len(added)

    def verify(self, heads: Iterable[Head] = ()) -> ChainReport:
        """Compute the chain anew and compare; then compare the decisions on studies with their entries.

        Parameters
        ----------
        heads
            That were noted earlier.
        """
        report = ChainReport()
        noted = tuple(heads)
        for row in self._links():
            report.position += 1
            if row.position != report.position:
                report.note(f"position {report.position} is missing; the next one is {row.position}")
                report.position = row.position
            elif row.id is None:
                report.note(f"position {row.position}: entry {row.audit_id} is missing")
            elif _digest(report.digest, row.position, row) != row.digest:
                report.note(f"position {row.position}: entry {row.audit_id} is not what was sealed")
            for head in noted:
                if row.position == head.position and not row.digest.startswith(head.digest):
                    report.note(f"position {row.position}: the digest is not the one that was noted")
            report.n_sealed += 1
            report.digest = row.digest
        self._check_end(report, noted)
        with self._database.read() as connection:
            for finding in decision_findings(connection):
                report.note(finding)
            unsealed = sa.select(sa.func.count()).select_from(audit.outerjoin(audit_chain)).where(_NOT_SEALED)
            report.n_unsealed = connection.execute(unsealed).scalar_one()
        return report

    def _check_end(self, report: ChainReport, noted: Iterable[Head]) -> None:
        """Note what says that the chain was longer, or not this one."""
        for head in noted:
            if head.position > report.position:
                report.note(f"position {head.position} was noted, and the chain ends at {report.position}")
            elif head.position < 1:
                report.note("what was noted is no position of a chain")
        with self._database.read() as connection:
            for row in connection.execute(sa.select(audit_forwarding)):
                if row.position > report.position:
                    report.note(
                        f"position {row.position} was sent to {row.target}, and the chain ends at {report.position}"
                    )

    def head(self) -> Head | None:
        """Return the newest position and its digest; None for an empty chain."""
        with self._database.read() as connection:
            row = connection.execute(_chain().order_by(audit_chain.c.position.desc()).limit(1)).first()
        return None if row is None else Head(row.position, row.digest)

    def has(self, head: Head) -> bool:
        """Return whether the chain has a digest at a position."""
        with self._database.read() as connection:
            row = connection.execute(_chain().where(audit_chain.c.position == head.position)).first()
        return row is not None and str(row.digest).startswith(head.digest)

    def after(self, position: int, *, limit: int = BATCH) -> tuple[Sealed, ...]:
        """Return sealed entries after a position, in the order of the chain."""
        statement = (
            sa.select(audit_chain.c.position, audit_chain.c.digest, *_ENTRY)
            .join(audit, audit.c.id == audit_chain.c.audit_id)
            .where(audit_chain.c.position > position)
            .order_by(audit_chain.c.position)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(Sealed(row.position, row.digest, audit_row(row)) for row in connection.execute(statement))

    def forwarded(self, target: str) -> int:
        """Return the position up to which the chain was sent to a receiver; 0 if nothing was."""
        statement = sa.select(audit_forwarding.c.position).where(audit_forwarding.c.target == target)
        with self._database.read() as connection:
            return connection.execute(statement).scalar_one_or_none() or 0

    def note_forwarded(self, target: str, position: int) -> None:
        """Record that the chain was sent to a receiver up to a position."""
        with self._database.write() as connection:
            changed = sa.update(audit_forwarding).where(audit_forwarding.c.target == target).values(position=position)
            if not connection.execute(changed).rowcount:
                connection.execute(sa.insert(audit_forwarding).values(target=target, position=position))

    def _links(self) -> Iterator[Any]:
        """Yield the chain with its entries, in pieces, so that a long one needs little memory."""
        position = -1
        while True:
            statement = (
                sa.select(audit_chain, *_ENTRY)
                .outerjoin(audit, audit.c.id == audit_chain.c.audit_id)
                .where(audit_chain.c.position > position)
                .order_by(audit_chain.c.position)
                .limit(BATCH)
            )
            with self._database.read() as connection:
                rows = connection.execute(statement).all()
            yield from rows
            if not rows:
                return
            position = rows[-1].position


_ENTRY = [audit.c[name] for name in AuditRow.__dataclass_fields__]
_NOT_SEALED = audit_chain.c.audit_id.is_(None)


def _chain() -> sa.Select[Any]:
    return sa.select(audit_chain.c.position, audit_chain.c.digest)


def _unsealed(connection: sa.Connection) -> sa.Select[Any]:
    """Return a query for the entries without a place; only the newest are looked at."""
    newest = connection.execute(sa.select(sa.func.max(audit_chain.c.audit_id))).scalar_one() or 0
    return (
        sa.select(*_ENTRY)
        .select_from(audit.outerjoin(audit_chain))
        .where(audit.c.id > newest - _LATE, _NOT_SEALED)
        .order_by(audit.c.id)
    )


def _digest(before: str, position: int, row: Any) -> str:  # noqa: ANN401 - a row of SQLAlchemy
    """Return the digest of an entry after another."""
    at: datetime = row.occurred_at
    entry = [before, position, row.id, row.actor, row.action, row.subject, row.detail, at.isoformat()]
    return hashlib.sha256(json.dumps(entry, ensure_ascii=True).encode()).hexdigest()

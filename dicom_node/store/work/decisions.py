"""People's decisions on studies; rows are only ever added, each with an entry in the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import EvidenceChangedError, NotFoundError
from dicom_node.store.index.gate_state import NEWEST_FIRST
from dicom_node.store.index.rows import StudyRow
from dicom_node.store.schema import decisions, studies
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.evidence import study_evidence
from dicom_node.store.work.rows import DecisionKind, DecisionRow
from dicom_node.store.work.studies import STUDY_COLUMNS, study_row_of

_COLUMNS = [decisions.c[name] for name in DecisionRow.__dataclass_fields__]


class Decisions:
    """Decisions of people on studies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        study_instance_uid: str,
        kind: DecisionKind,
        *,
        reason: str,
        decided_by: str,
        now: datetime,
        check: Callable[[StudyRow], None],
        seen_evidence: str | None = None,
    ) -> DecisionRow:
        """Add a decision on the current evidence.

        Parameters
        ----------
        check
            Called with the study inside the transaction; if it raises, no decision is added.
        seen_evidence
            Fingerprint of the evidence that the person looked at; None if there is nothing to compare.

        Raises
        ------
        EvidenceChangedError
            The evidence is no longer what the person looked at.
        NotFoundError
            The index has no such study.
        """
        with self._database.write() as connection:
            row = connection.execute(
                sa.select(*STUDY_COLUMNS).where(studies.c.study_instance_uid == study_instance_uid)
            ).one_or_none()
            if row is None:
                raise NotFoundError("study", study_instance_uid)
            fingerprint = study_evidence(connection, study_instance_uid).fingerprint
            if seen_evidence is not None and seen_evidence != fingerprint:
                raise EvidenceChangedError(study_instance_uid)
            check(study_row_of(row))
            added = connection.execute(
                sa.insert(decisions)
                .values(
                    study_instance_uid=study_instance_uid,
                    kind=kind.value,
                    reason=reason,
                    decided_by=decided_by,
                    evidence_fingerprint=fingerprint,
                    decided_at=now,
                )
                .returning(*_COLUMNS)
            ).one()
            connection.execute(
                sa.update(studies).where(studies.c.study_instance_uid == study_instance_uid).values(announced_for=None)
            )
            decision = _decision_row(added)
            add_audit(
                connection,
                DECIDED,
                actor=decided_by,
                subject=study_instance_uid,
                now=now,
                detail=decision_detail(decision),
            )
            return decision

    def of(self, study_instance_uid: str) -> tuple[DecisionRow, ...]:
        """Return the decisions on a study, the newest first."""
        statement = (
            sa.select(*_COLUMNS).where(decisions.c.study_instance_uid == study_instance_uid).order_by(*NEWEST_FIRST)
        )
        with self._database.read() as connection:
            return tuple(map(_decision_row, connection.execute(statement)))

    def newest(self, study_instance_uids: Sequence[str]) -> Mapping[str, DecisionRow]:
        """Return the newest decision on each of the studies that have one."""
        statement = sa.select(*_COLUMNS).order_by(*(column for column in NEWEST_FIRST))
        found: dict[str, DecisionRow] = {}
        with self._database.read() as connection:
            for start in range(0, len(study_instance_uids), _UIDS_AT_ONCE):
                some = study_instance_uids[start : start + _UIDS_AT_ONCE]
                for row in connection.execute(statement.where(decisions.c.study_instance_uid.in_(some))):
                    found.setdefault(row.study_instance_uid, _decision_row(row))
        return found


_UIDS_AT_ONCE = 500
DECIDED: Final = "decided"  # what the audit trail calls it


def decision_detail(row: DecisionRow) -> dict[str, Any]:
    """Return what the audit trail records of a decision, besides who made it, when, and on which study."""
    return {
        "decision": row.id,
        "kind": row.kind.value,
        "reason": row.reason,
        "evidence_fingerprint": row.evidence_fingerprint,
    }


def read_study(connection: sa.Connection, study_instance_uid: str) -> tuple[StudyRow, str, DecisionRow | None]:
    """Return a study, the fingerprint of its evidence and its newest decision, within the caller's transaction.

    Raises
    ------
    NotFoundError
        The index has no such study.
    """
    row = connection.execute(
        sa.select(*STUDY_COLUMNS).where(studies.c.study_instance_uid == study_instance_uid)
    ).one_or_none()
    if row is None:
        raise NotFoundError("study", study_instance_uid)
    evidence = study_evidence(connection, study_instance_uid)
    return study_row_of(row), evidence.fingerprint, newest_decision(connection, study_instance_uid)


def newest_decision(connection: sa.Connection, study_instance_uid: str) -> DecisionRow | None:
    """Return the newest decision on a study, or None."""
    newest = sa.select(*_COLUMNS).where(decisions.c.study_instance_uid == study_instance_uid).order_by(*NEWEST_FIRST)
    row = connection.execute(newest.limit(1)).one_or_none()
    return None if row is None else _decision_row(row)


def _decision_row(row: sa.Row[tuple[object, ...]]) -> DecisionRow:
    values = row._asdict()
    values["kind"] = DecisionKind(values["kind"])
    return DecisionRow(**values)

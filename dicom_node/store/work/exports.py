"""Exports: which studies were published where, on which evidence, and what of them has arrived there.

A row is written before anything leaves, so that a crash leaves a trace of what may have left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.index.rows import StudyRow
from dicom_node.store.schema import decisions, export_copies, exports, studies
from dicom_node.store.states import ExportState, StudyState
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.decisions import read_study
from dicom_node.store.work.rows import DecisionKind, DecisionRow, ExportRow, NewExport

MayLeave = Callable[[StudyRow, str, DecisionRow | None], bool]
"""Whether a study may leave, given its row, the fingerprint of its evidence and its newest decision."""

_COLUMNS = [exports.c[name] for name in ExportRow.__dataclass_fields__]
_KEY = ("study_instance_uid", "key_fingerprint", "target")


class Exports:
    """Studies that were exported, and the copies that have arrived at peers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, new: NewExport, may_leave: MayLeave, now: datetime) -> ExportRow | None:
        """Record that a study is about to be published; return None, with nothing recorded, if it may not leave.

        Asked and recorded in one transaction, so nothing can arrive or be decided between the two. An export of the
        same content that was published before stays published.
        """
        with self._database.write() as connection:
            if not _may_leave(connection, new.study_instance_uid, may_leave):
                return None
            values = {name: getattr(new, name) for name in NewExport.__dataclass_fields__}
            known = connection.execute(sa.select(*_COLUMNS).filter_by(**{key: values[key] for key in _KEY})).first()
            if known is None:
                added = sa.insert(exports).values(**values, state=ExportState.SENDING.value, began_at=now)
                return _row(connection.execute(added.returning(*_COLUMNS)).one())
            is_same = known.content_digest == new.content_digest and known.state == ExportState.PUBLISHED.value
            state = ExportState.PUBLISHED if is_same else ExportState.SENDING
            changes = {"withdrawn_at": None, "withdrawn_because": None, "began_at": now}
            changed = sa.update(exports).where(exports.c.id == known.id).values(**values, state=state.value, **changes)
            return _row(connection.execute(changed.returning(*_COLUMNS)).one())

    @contextmanager
    def publishing(self, row: ExportRow, may_leave: MayLeave, now: datetime, *, by: str = "export") -> Iterator[bool]:
        """Yield whether the study may still leave, under the write lock; then it counts as published.

        Nothing can arrive or be decided during the block; keep it short. An exception in the block leaves the export
        begun. ``by`` says who exports.
        """
        with self._database.write() as connection:
            is_fine = _may_leave(connection, row.study_instance_uid, may_leave)
            yield is_fine
            if is_fine:
                published = {"state": ExportState.PUBLISHED.value, "published_at": now}
                connection.execute(sa.update(exports).where(exports.c.id == row.id).values(**published))
                detail = {
                    "project": row.project,
                    "target": row.target,
                    "n_instances": row.n_instances,
                    "evidence_fingerprint": row.evidence_fingerprint,
                    "gate_digest": row.gate_digest,
                }
                add_audit(connection, "exported", actor=by, subject=row.study_instance_uid, now=now, detail=detail)

    def forget(self, row: ExportRow) -> None:
        """Remove an export that was begun, if nothing of it was ever published or sent."""
        sent = sa.select(export_copies.c.id).where(export_copies.c.export_id == exports.c.id)
        begun = exports.c.published_at.is_(None) & ~sent.exists()
        with self._database.write() as connection:
            connection.execute(sa.delete(exports).where(exports.c.id == row.id, begun))

    def may_leave(self, study_instance_uid: str, may_leave: MayLeave) -> bool:
        """Return whether a study may leave at this moment."""
        with self._database.read() as connection:
            return _may_leave(connection, study_instance_uid, may_leave)

    def withdraw(self, row: ExportRow, because: str, now: datetime, *, by: str = "node") -> None:
        """Record that a study should no longer be where it was published or sent to. Nothing is recalled by this."""
        with self._database.write() as connection:
            withdrawn = {"state": ExportState.WITHDRAWN.value, "withdrawn_at": now, "withdrawn_because": because}
            connection.execute(sa.update(exports).where(exports.c.id == row.id).values(**withdrawn))
            detail = {"project": row.project, "target": row.target, "because": because}
            add_audit(connection, "export-withdrawn", actor=by, subject=row.study_instance_uid, now=now, detail=detail)

    def list(
        self,
        *,
        study_instance_uids: Iterable[str] | None = None,
        target: str | None = None,
        key_fingerprint: str | None = None,
        state: ExportState | None = None,
    ) -> tuple[ExportRow, ...]:
        """Return exports, the oldest first."""
        statement = sa.select(*_COLUMNS).order_by(exports.c.id)
        if study_instance_uids is not None:
            statement = statement.where(exports.c.study_instance_uid.in_(list(study_instance_uids)))
        if target is not None:
            statement = statement.where(exports.c.target == target)
        if key_fingerprint is not None:
            statement = statement.where(exports.c.key_fingerprint == key_fingerprint)
        if state is not None:
            statement = statement.where(exports.c.state == state.value)
        with self._database.read() as connection:
            return tuple(_row(row) for row in connection.execute(statement))

    def keys_of(self, project: str) -> frozenset[str]:
        """Return the fingerprints of the keys with which a project was exported."""
        statement = sa.select(exports.c.key_fingerprint).where(exports.c.project == project).distinct()
        with self._database.read() as connection:
            return frozenset(connection.scalars(statement))

    def in_doubt(self) -> tuple[ExportRow, ...]:
        """Return exports, not withdrawn yet, of studies that are blocked, in review, or were ever put on hold."""
        held = sa.select(decisions.c.id).where(
            decisions.c.study_instance_uid == exports.c.study_instance_uid, decisions.c.kind == DecisionKind.HOLD.value
        )
        statement = (
            sa.select(*_COLUMNS)
            .join(studies, studies.c.study_instance_uid == exports.c.study_instance_uid)
            .where(
                exports.c.state != ExportState.WITHDRAWN.value,
                studies.c.state.in_((StudyState.BLOCKED.value, StudyState.REVIEW.value)) | held.exists(),
            )
            .order_by(exports.c.id)
        )
        with self._database.read() as connection:
            return tuple(_row(row) for row in connection.execute(statement))

    def copies(self, export_id: int) -> Mapping[str, tuple[str, bool]]:
        """Return SHA-256 and arrival of each copy that was sent, by its SOP Instance UID."""
        columns = (export_copies.c.sop_instance_uid, export_copies.c.sha256, export_copies.c.has_arrived)
        statement = sa.select(*columns).where(export_copies.c.export_id == export_id)
        with self._database.read() as connection:
            return {uid: (sha256, has_arrived) for uid, sha256, has_arrived in connection.execute(statement)}

    def note_sent(self, export_id: int, copies: Mapping[str, str]) -> None:
        """Record that copies are about to be sent: SOP Instance UID → SHA-256."""
        rows = [{"export_id": export_id, "sop_instance_uid": uid, "sha256": sha256} for uid, sha256 in copies.items()]
        if not rows:
            return
        with self._database.write() as connection:
            _delete_copies(connection, export_id, copies)
            connection.execute(sa.insert(export_copies), [row | {"has_arrived": False} for row in rows])

    def note_arrived(self, export_id: int, sop_instance_uids: Iterable[str]) -> None:
        """Record that copies have arrived."""
        arrived = (
            sa.update(export_copies)
            .where(export_copies.c.export_id == export_id)
            .where(export_copies.c.sop_instance_uid == sa.bindparam("uid"))
            .values(has_arrived=True)
        )
        rows = [{"uid": uid} for uid in sop_instance_uids]
        if rows:
            with self._database.write() as connection:
                connection.execute(arrived, rows)


def _may_leave(connection: sa.Connection, study_instance_uid: str, may_leave: MayLeave) -> bool:
    try:
        return may_leave(*read_study(connection, study_instance_uid))
    except NotFoundError:  # it was deleted
        return False


def _delete_copies(connection: sa.Connection, export_id: int, copies: Iterable[str]) -> None:
    connection.execute(
        sa.delete(export_copies)
        .where(export_copies.c.export_id == export_id)
        .where(export_copies.c.sop_instance_uid == sa.bindparam("uid")),
        [{"uid": uid} for uid in copies],
    )


def _row(row: sa.Row[Any]) -> ExportRow:
    values = row._asdict()
    values["state"] = ExportState(values["state"])
    return ExportRow(**values)

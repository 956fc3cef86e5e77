"""Delete studies for good, with everything that was made of them, because a person says so (a withdrawn consent).

Rows are deleted first, then files. Before that, each object is linked into the spool, so that a crash in between leaves
a trace for the next start. What stays is an audit entry without identifying values, the rows of exports, so that people
who have a copy can be told, and what other systems were told of the study, so that they are told that it is open now.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.schema import (
    access_tokens,
    announcements,
    audit,
    audit_chain,
    audit_forwarding,
    conflicts,
    export_copies,
    exports,
    instances,
    jobs,
    metadata,
    notices,
    series,
    studies,
    web_sessions,
)
from dicom_node.store.states import ExportState, Origin
from dicom_node.store.work.announcements import announce_deletion
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.retention import remove_unnamed

_STAYS = frozenset(
    {audit, audit_chain, audit_forwarding, exports, export_copies, announcements, notices, access_tokens, web_sessions}
)
_STUDY, _SERIES, _INSTANCE = "study_instance_uid", "series_instance_uid", "sop_instance_uid"


@dataclass(frozen=True, slots=True)
class ErasedStudy:
    """What was deleted, or would be."""

    study_instance_uid: str
    n_received: int
    n_results: int
    n_conflicts: int


class Erasure:
    """Deletes studies of withdrawn consents."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def studies_of(self, patient_id: str) -> tuple[str, ...]:
        """Return the studies in which the study or any instance has this Patient ID, the oldest first."""
        has_instance = sa.select(instances.c.study_instance_uid).where(instances.c.patient_id == patient_id)
        statement = (
            sa.select(studies.c.study_instance_uid)
            .where(sa.or_(studies.c.patient_id == patient_id, studies.c.study_instance_uid.in_(has_instance)))
            .order_by(studies.c.first_arrival_at, studies.c.study_instance_uid)
        )
        with self._database.read() as connection:
            return tuple(connection.execute(statement).scalars())

    def preview(self, study_instance_uid: str) -> ErasedStudy:
        """Return what deleting a study would delete; raise `NotFoundError` if there is no such study."""
        with self._database.read() as connection:
            return _counted(connection, study_instance_uid)

    def delete(self, study_instance_uid: str, *, reason: str, decided_by: str, now: datetime) -> ErasedStudy:
        """Delete the rows and the bytes of a study: what was received, conflicts, results, jobs, verdicts, decisions.

        Its exports count as withdrawn. A job that runs on it cannot store its results any more. What a sender sends
        again afterwards is received as a new study.

        Raises
        ------
        NotFoundError
            There is no such study; nothing was changed.
        """
        with ExitStack() as held:
            with self._database.write() as connection:
                erased = _counted(connection, study_instance_uid)
                digests = _digests(connection, study_instance_uid)
                held.enter_context(self._objects.condemn(digests))  # until the files are gone
                _delete_rows(connection, study_instance_uid)
                _withdraw(connection, study_instance_uid, now)
                announce_deletion(connection, study_instance_uid, now)
                detail = {
                    "reason": reason,
                    "n_received": erased.n_received,
                    "n_results": erased.n_results,
                    "n_conflicts": erased.n_conflicts,
                }
                add_audit(
                    connection, "study-deleted", actor=decided_by, subject=study_instance_uid, now=now, detail=detail
                )
            remove_unnamed(self._database, self._objects, digests)
        return erased


def _counted(connection: sa.Connection, study_instance_uid: str) -> ErasedStudy:
    known = sa.select(studies.c.study_instance_uid).where(studies.c.study_instance_uid == study_instance_uid)
    if connection.execute(known).first() is None:
        raise NotFoundError("study", study_instance_uid)
    by_origin = (
        sa.select(instances.c.origin, sa.func.count())
        .where(instances.c.study_instance_uid == study_instance_uid)
        .group_by(instances.c.origin)
    )
    n = {str(row[0]): int(row[1]) for row in connection.execute(by_origin)}
    of_study = sa.select(sa.func.count()).select_from(conflicts).where(_is_conflict_of(study_instance_uid))
    return ErasedStudy(
        study_instance_uid,
        n.get(Origin.RECEIVED.value, 0),
        n.get(Origin.NODE.value, 0),
        connection.execute(of_study).scalar_one(),
    )


def _digests(connection: sa.Connection, study_instance_uid: str) -> Sequence[str]:
    of_study = sa.union(
        sa.select(instances.c.digest).where(instances.c.study_instance_uid == study_instance_uid),
        sa.select(conflicts.c.digest).where(_is_conflict_of(study_instance_uid)),
    )
    return connection.execute(of_study).scalars().all()


def _is_conflict_of(study_instance_uid: str) -> sa.ColumnElement[bool]:
    its_series = sa.select(series.c.series_instance_uid).where(series.c.study_instance_uid == study_instance_uid)
    its_instances = sa.select(instances.c.sop_instance_uid).where(instances.c.study_instance_uid == study_instance_uid)
    return sa.or_(conflicts.c.series_instance_uid.in_(its_series), conflicts.c.sop_instance_uid.in_(its_instances))


def _delete_rows(connection: sa.Connection, study_instance_uid: str) -> None:
    """Delete the rows of every table that belong to a study, whatever tables there are.

    A row belongs to it if it names the study, one of its series or instances, or refers to a row that does. Tables
    that refer come before those that they refer to.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")  # overwrite, not only forget
    uids = {
        _STUDY: [study_instance_uid],
        _SERIES: list(
            connection.execute(
                sa.select(series.c.series_instance_uid).where(series.c.study_instance_uid == study_instance_uid)
            ).scalars()
        ),
        _INSTANCE: list(
            connection.execute(
                sa.select(instances.c.sop_instance_uid).where(instances.c.study_instance_uid == study_instance_uid)
            ).scalars()
        ),
    }
    for some in _parts(uids[_SERIES]):  # or a worker that claims one adds an event to it meanwhile
        connection.execute(sa.select(jobs.c.id).where(jobs.c.series_instance_uid.in_(some)).with_for_update())
    doomed: dict[sa.Table, list[Any]] = {}  # primary keys, of tables that others may refer to
    belongs: dict[sa.Table, list[tuple[sa.Column[Any], list[Any]]]] = {}
    for table in metadata.sorted_tables:  # a table after those that it refers to
        if table in _STAYS:
            continue
        belongs[table] = _ways_to_belong(table, uids, doomed)
        keys = tuple(table.primary_key.columns)
        if len(keys) == 1:
            doomed[table] = _values(connection, keys[0], belongs[table])
    for table, ways in reversed(belongs.items()):
        for column, values in ways:
            for some in _parts(values):
                connection.execute(sa.delete(table).where(column.in_(some)))


def _ways_to_belong(
    table: sa.Table, uids: dict[str, list[str]], doomed: dict[sa.Table, list[Any]]
) -> list[tuple[sa.Column[Any], list[Any]]]:
    """Return columns and the values by which a row belongs to the study."""
    ways: list[tuple[sa.Column[Any], list[Any]]] = [
        (table.c[name], values) for name, values in uids.items() if name in table.c
    ]
    for column in table.columns:
        ways += [
            (column, doomed[reference.column.table])
            for reference in column.foreign_keys
            if reference.column.table in doomed and reference.column.primary_key
        ]
    return ways


def _values(connection: sa.Connection, key: sa.Column[Any], ways: list[tuple[sa.Column[Any], list[Any]]]) -> list[Any]:
    found: set[Any] = set()
    for column, values in ways:
        for some in _parts(values):
            found.update(connection.execute(sa.select(key).where(column.in_(some))).scalars())
    return sorted(found)


def _parts(values: Sequence[Any], size: int = 500) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _withdraw(connection: sa.Connection, study_instance_uid: str, now: datetime) -> None:
    connection.execute(
        sa.update(exports)
        .where(exports.c.study_instance_uid == study_instance_uid, exports.c.state != ExportState.WITHDRAWN.value)
        .values(
            state=ExportState.WITHDRAWN.value,
            withdrawn_at=now,
            withdrawn_because="the study was deleted on a person's request",
        )
    )

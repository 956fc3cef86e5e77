"""Conflicts between two contents of one SOP Instance UID: compared by the node, settled by people.

To keep the first content settles a conflict. To adopt the other one makes it the instance, in a new generation of its
series. Both contents stay on disk until retention or a person deletes the series.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import ConflictChoiceError, NotFoundError
from dicom_node.store.index.filing import series_values, study_values
from dicom_node.store.index.rows import Arrival, ConflictRow
from dicom_node.store.index.series import conflict_row
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.schema import conflicts, instances, series, studies
from dicom_node.store.states import ConflictChoice, Origin, SeriesState
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.transitions import REOPENED, STUDY_REOPENED, supersede_work

if TYPE_CHECKING:
    from dicom_node.store.index.headers import Header

OTHER_BYTES = "other-bytes"
_COLUMNS = [conflicts.c[name] for name in ConflictRow.__dataclass_fields__]


class Conflicts:
    """Conflicts between two contents of one SOP Instance UID."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def get(self, conflict_id: int) -> ConflictRow:
        """Return one conflict, or raise `NotFoundError`."""
        with self._database.read() as connection:
            return _get(connection, conflict_id)

    def open_in(
        self, *, series_instance_uid: str | None = None, study_instance_uid: str | None = None
    ) -> tuple[int, ...]:
        """Return the numbers of unsettled conflicts in a series or study, the oldest first."""
        statement = sa.select(conflicts.c.id).where(conflicts.c.settled_at.is_(None)).order_by(conflicts.c.id)
        if series_instance_uid is not None:
            statement = statement.where(conflicts.c.series_instance_uid == series_instance_uid)
        if study_instance_uid is not None:
            of_study = sa.select(series.c.series_instance_uid).where(series.c.study_instance_uid == study_instance_uid)
            statement = statement.where(conflicts.c.series_instance_uid.in_(of_study))
        with self._database.read() as connection:
            return tuple(connection.execute(statement).scalars())

    def to_compare(self, *, limit: int) -> tuple[ConflictRow, ...]:
        """Return unsettled conflicts whose contents were not compared yet, the oldest first."""
        statement = (
            sa.select(*_COLUMNS)
            .where(conflicts.c.settled_at.is_(None), conflicts.c.differences.is_(None))
            .order_by(conflicts.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(map(conflict_row, connection.execute(statement)))

    def note_differences(self, conflict_id: int, names: Sequence[str], now: datetime) -> bool:
        """Record by name what differs; return whether nothing does, which settles the conflict."""
        note = sa.update(conflicts).where(conflicts.c.id == conflict_id).values(differences=json.dumps(names))
        with self._database.write() as connection:
            row = _get(connection, conflict_id)
            connection.execute(note)
            if names or row.reason != OTHER_BYTES or row.settled_at is not None:
                return False
            _settle(connection, row, ConflictChoice.SAME, now)
            detail = {"conflict": conflict_id, "because": "the same content in another encoding"}
            add_audit(
                connection, "conflict-settled", actor="node", subject=row.sop_instance_uid, now=now, detail=detail
            )
        return True

    def keep(self, conflict_id: int, *, reason: str, decided_by: str, now: datetime) -> bool:
        """Keep the content that is the instance; return False, and change nothing, if the conflict is settled already.

        The study is open until it is judged without the conflict. The audit trail says who chose, and why.

        Raises
        ------
        NotFoundError
            There is no such conflict.
        """
        with self._database.write() as connection:
            row = _get(connection, conflict_id)
            if row.settled_at is not None:
                return False
            _settle(connection, row, ConflictChoice.KEPT, now)
            detail = {"conflict": conflict_id, "reason": reason}
            add_audit(
                connection, "conflict-kept", actor=decided_by, subject=row.sop_instance_uid, now=now, detail=detail
            )
        return True

    def adopt(self, conflict_ids: Sequence[int], *, reason: str, decided_by: str, now: datetime) -> tuple[str, ...]:
        """Make the other content of each conflict the instance, all or none; return the series that start over.

        Each series begins a new generation, so it is processed and judged again; what its header says of series, study
        and patient is what the index says from then on. The former content is the other one now.

        Raises
        ------
        NotFoundError
            There is no such conflict.
        ConflictChoiceError
            A content cannot be adopted: it belongs to another series or study, or the instance was deleted.
        ObjectMissingError, ObjectDamagedError
            The bytes of a content cannot be read.
        """
        headers = {one: self._header(self.get(one)) for one in conflict_ids}
        touched: dict[str, str] = {}
        with self._database.write() as connection:
            for conflict_id, (header, n_bytes) in headers.items():
                row = _get(connection, conflict_id)
                former = _instance_of(connection, row, header)
                _replace(connection, row, former, header, n_bytes, now)
                touched[header.series_instance_uid] = header.study_instance_uid
                detail = {
                    "conflict": conflict_id,
                    "reason": reason,
                    "adopted_sha256": row.digest,
                    "former_sha256": former.digest,
                }
                add_audit(
                    connection,
                    "conflict-adopted",
                    actor=decided_by,
                    subject=row.sop_instance_uid,
                    now=now,
                    detail=detail,
                )
            for series_instance_uid in touched:
                _start_over(connection, series_instance_uid, now)
        return tuple(touched)

    def _header(self, row: ConflictRow) -> tuple[Header, int]:
        from dicom_node.store.index.headers import read_header  # loads pydicom, which most commands do without

        with self._objects.stored(row.digest) as stored:
            with self._database.read() as connection:
                sop_class_uid = connection.execute(
                    sa.select(instances.c.sop_class_uid).where(instances.c.sop_instance_uid == row.sop_instance_uid)
                ).scalar()
            if sop_class_uid is None:
                raise ConflictChoiceError(row.id, "the instance was deleted", "send the content again")
            arrival = Arrival(
                sop_class_uid=sop_class_uid,
                sop_instance_uid=row.sop_instance_uid,
                transfer_syntax_uid=row.transfer_syntax_uid,
                calling_ae_title=row.calling_ae_title,
                association_id=row.association_id,
                received_at=row.received_at,
            )
            return read_header(stored, arrival), stored.dataset_bytes


def _get(connection: sa.Connection, conflict_id: int) -> ConflictRow:
    row = connection.execute(sa.select(*_COLUMNS).where(conflicts.c.id == conflict_id)).one_or_none()
    if row is None:
        raise NotFoundError("conflict", str(conflict_id))
    return conflict_row(row)


def _settle(connection: sa.Connection, row: ConflictRow, choice: ConflictChoice, now: datetime) -> None:
    """Settle a conflict; the study that it put in doubt is open until it is judged again."""
    connection.execute(sa.update(conflicts).where(conflicts.c.id == row.id).values(settled_at=now, choice=choice.value))
    doubted = sa.select(series.c.study_instance_uid).where(
        series.c.series_instance_uid == row.series_instance_uid, series.c.origin == Origin.RECEIVED.value
    )
    connection.execute(sa.update(studies).where(studies.c.study_instance_uid.in_(doubted)).values(**STUDY_REOPENED))


def _instance_of(connection: sa.Connection, row: ConflictRow, header: Header) -> sa.Row[Any]:
    """Return the instance whose place a content would take, or raise."""
    found = connection.execute(
        sa.select(instances).where(instances.c.sop_instance_uid == row.sop_instance_uid)
    ).one_or_none()
    if found is None or found.origin != Origin.RECEIVED.value:
        raise ConflictChoiceError(row.id, "there is no received instance in its place", "send the content again")
    where = (found.series_instance_uid, found.study_instance_uid)
    if row.reason != OTHER_BYTES or where != (header.series_instance_uid, header.study_instance_uid):
        finding = "the other content names another series or study than the instance"
        raise ConflictChoiceError(row.id, finding, "delete the wrong study (`studies delete`) and send the right one")
    return found


def _replace(
    connection: sa.Connection, row: ConflictRow, former: sa.Row[Any], header: Header, n_bytes: int, now: datetime
) -> None:
    """Exchange the two contents: of the instance, and of the conflict."""
    connection.execute(
        sa.update(instances)
        .where(instances.c.id == former.id)
        .values(
            digest=row.digest,
            dataset_bytes=n_bytes,
            transfer_syntax_uid=header.transfer_syntax_uid,
            instance_number=header.instance_number,
            attributes=header.dicom_json("instance"),
            patient_id=header.texts.get("PatientID", ""),
        )
    )
    connection.execute(
        sa.update(conflicts)
        .where(conflicts.c.sop_instance_uid == row.sop_instance_uid)
        .values(stored_digest=row.digest)
    )
    connection.execute(
        sa.update(conflicts)
        .where(conflicts.c.id == row.id)
        .values(
            digest=former.digest,
            transfer_syntax_uid=former.transfer_syntax_uid,
            settled_at=now,
            choice=ConflictChoice.ADOPTED.value,
        )
    )
    connection.execute(
        sa.update(series)
        .where(series.c.series_instance_uid == former.series_instance_uid)
        .values(
            **series_values(header),
            n_dataset_bytes=series.c.n_dataset_bytes + n_bytes - former.dataset_bytes,
        )
    )
    connection.execute(
        sa.update(studies)
        .where(studies.c.study_instance_uid == former.study_instance_uid)
        .values(**study_values(header), **STUDY_REOPENED)
    )


def _start_over(connection: sa.Connection, series_instance_uid: str, now: datetime) -> None:
    """Begin the next generation of a closed series; one that still receives has not been processed yet."""
    begun = connection.execute(
        sa.update(series)
        .where(
            series.c.series_instance_uid == series_instance_uid,
            series.c.state.in_((SeriesState.COMPLETE.value, SeriesState.SKIPPED.value)),
        )
        .values(state=SeriesState.RECEIVING.value, generation=series.c.generation + 1, **REOPENED)
        .returning(series.c.generation)
    ).one_or_none()
    if begun is not None:
        supersede_work(connection, series_instance_uid, begun.generation, now)

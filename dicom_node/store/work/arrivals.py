"""Add received instances to the index, and update their series and studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.index.filing import Filed, add_series, add_study, instance_values
from dicom_node.store.schema import conflicts, instances, series, studies
from dicom_node.store.statements import DriverStatement
from dicom_node.store.states import Kept, Origin, SeriesState, StudyState
from dicom_node.store.work.transitions import REOPENED, STUDY_REOPENED, supersede_work


@dataclass(slots=True)
class _Growth:
    """What a batch adds to a series that is already in the index."""

    study_instance_uid: str
    origin: Origin
    state: SeriesState
    generation: int
    n_instances: int = 0
    n_dataset_bytes: int = 0
    is_reopened: bool = False


def index_arrivals(connection: sa.Connection, batch: Sequence[Filed]) -> list[Kept]:
    """Add received instances to the index within the caller's write transaction; return what became of each."""
    known = _known_instances(connection, batch)
    growing: dict[str, _Growth] = {}
    answers = []
    rows = []
    came_with: dict[str, str] = {}  # series of instances of this batch
    for filed in batch:
        header = filed.header
        uid = header.sop_instance_uid
        mine = (filed.digest, header.transfer_syntax_uid)
        if uid in known:
            kept = Kept.DUPLICATE if known[uid] == mine else Kept.CONFLICT
            if kept is Kept.CONFLICT:
                _add_conflict(
                    connection, filed, "other-bytes", known[uid][0], came_with.get(uid) or _series_of(connection, uid)
                )
            answers.append(kept)
            continue
        growth = growing.get(header.series_instance_uid)
        if growth is None:
            growth = growing[header.series_instance_uid] = _growing_series(connection, filed)
        if growth.study_instance_uid != header.study_instance_uid:
            _add_conflict(connection, filed, "series-in-other-study", None, header.series_instance_uid)
            answers.append(Kept.CONFLICT)
            continue
        known[uid] = mine
        came_with[uid] = header.series_instance_uid
        growth.n_instances += 1
        growth.n_dataset_bytes += filed.dataset_bytes
        rows.append(instance_values(filed, Origin.RECEIVED, growth.generation))
        answers.append(Kept.STORED)
    if rows:
        _INSERT_INSTANCE.run_many(connection, rows)
        _grow(connection, growing, max(filed.arrival.received_at for filed in batch))
    return answers


def _known_instances(connection: sa.Connection, batch: Sequence[Filed]) -> dict[str, tuple[str, str]]:
    """Return digest and transfer syntax of those instances of a batch that the index already has."""
    known = {}
    for uid in {filed.header.sop_instance_uid for filed in batch}:
        row = _KNOWN.first_row(connection, {"uid": uid})
        if row is not None:
            known[uid] = (row[0], row[1])
    return known


def _growing_series(connection: sa.Connection, filed: Filed) -> _Growth:
    header, now = filed.header, filed.arrival.received_at
    row = _SERIES.first_row(connection, {"uid": header.series_instance_uid})
    if row is None:
        if _STUDY.first_row(connection, {"uid": header.study_instance_uid}) is None:
            add_study(connection, header, now)
        add_series(connection, header, Origin.RECEIVED, SeriesState.RECEIVING, now)
        return _Growth(header.study_instance_uid, Origin.RECEIVED, SeriesState.RECEIVING, 1)
    study_instance_uid, origin, state, generation = row
    growth = _Growth(study_instance_uid, Origin(origin), SeriesState(state), generation)
    # An instance added to a closed generation opens the next one. A series that the node created is never processed.
    if growth.origin is Origin.RECEIVED and growth.state is not SeriesState.RECEIVING:
        growth.is_reopened = True
        growth.generation += 1
    return growth


def _grow(connection: sa.Connection, growing: dict[str, _Growth], now: datetime) -> None:
    for series_instance_uid, growth in growing.items():
        if not growth.n_instances:
            continue
        added = {"added_instances": growth.n_instances, "added_bytes": growth.n_dataset_bytes}
        _GROW_SERIES.run(connection, {"uid": series_instance_uid, "now": now, **added})
        if growth.origin is Origin.NODE:
            continue
        if growth.is_reopened:
            _REOPEN_SERIES.run(connection, {"uid": series_instance_uid, "next_generation": growth.generation})
            supersede_work(connection, series_instance_uid, growth.generation, now)
        # What has just arrived is not judged yet, so the study may not leave (DESIGN: doubt closes the gate).
        _GROW_STUDY.run(connection, {"uid": growth.study_instance_uid, "now": now})


def _add_conflict(
    connection: sa.Connection, filed: Filed, reason: str, stored_digest: str | None, series_instance_uid: str | None
) -> None:
    """Record a conflicting content; the study whose series it puts in doubt is open until it is judged again."""
    arrival = filed.arrival
    key = {
        "sop_instance_uid": filed.header.sop_instance_uid,
        "digest": filed.digest,
        "transfer_syntax_uid": filed.header.transfer_syntax_uid,
    }
    if connection.execute(sa.select(conflicts.c.id).filter_by(**key)).first() is not None:
        return
    connection.execute(
        sa.insert(conflicts).values(
            **key,
            reason=reason,
            stored_digest=stored_digest,
            series_instance_uid=series_instance_uid,
            calling_ae_title=arrival.calling_ae_title,
            association_id=arrival.association_id,
            received_at=arrival.received_at,
        )
    )
    doubted = sa.select(series.c.study_instance_uid).where(
        series.c.series_instance_uid == series_instance_uid, series.c.origin == Origin.RECEIVED.value
    )
    connection.execute(sa.update(studies).where(studies.c.study_instance_uid.in_(doubted)).values(**STUDY_REOPENED))


def _series_of(connection: sa.Connection, sop_instance_uid: str) -> str | None:
    """Return the series of an instance, or None if the index does not have it."""
    statement = sa.select(instances.c.series_instance_uid).where(instances.c.sop_instance_uid == sop_instance_uid)
    found: str | None = connection.execute(statement).scalar()
    return found


def _later(column: sa.Column[datetime]) -> sa.ColumnElement[datetime]:
    """Return the later of a column and ``now``; a batch with earlier instances may be committed after a later one."""
    now = sa.bindparam("now", type_=column.type)
    return sa.case((column > now, column), else_=now)


_KNOWN = DriverStatement(
    sa.select(instances.c.digest, instances.c.transfer_syntax_uid).where(
        instances.c.sop_instance_uid == sa.bindparam("uid")
    )
)
_INSERT_INSTANCE = DriverStatement(
    sa.insert(instances), [column.name for column in instances.c if column is not instances.c.id]
)
_SERIES = DriverStatement(
    sa.select(series.c.study_instance_uid, series.c.origin, series.c.state, series.c.generation).where(
        series.c.series_instance_uid == sa.bindparam("uid")
    )
)
_STUDY = DriverStatement(
    sa.select(studies.c.study_instance_uid).where(studies.c.study_instance_uid == sa.bindparam("uid"))
)
_GROW_SERIES = DriverStatement(
    sa.update(series)
    .where(series.c.series_instance_uid == sa.bindparam("uid"))
    .values(
        n_instances=series.c.n_instances + sa.bindparam("added_instances", type_=sa.Integer),
        n_dataset_bytes=series.c.n_dataset_bytes + sa.bindparam("added_bytes", type_=sa.BigInteger),
        last_arrival_at=_later(series.c.last_arrival_at),
    )
)
_REOPEN_SERIES = DriverStatement(
    sa.update(series)
    .where(series.c.series_instance_uid == sa.bindparam("uid"))
    .values(
        state=SeriesState.RECEIVING.value,
        generation=sa.bindparam("next_generation", type_=sa.Integer),
        **REOPENED,
    )
)
_GROW_STUDY = DriverStatement(
    sa.update(studies)
    .where(studies.c.study_instance_uid == sa.bindparam("uid"))
    .values(
        state=StudyState.OPEN.value,
        # An open study stays announced as it is, or each batch of a long study would be announced.
        announced_for=sa.case((studies.c.state == StudyState.OPEN.value, studies.c.announced_for), else_=sa.null()),
        last_arrival_at=_later(studies.c.last_arrival_at),
    )
)

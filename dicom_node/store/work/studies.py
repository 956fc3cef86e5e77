"""Studies: state, the evidence behind it, verdicts and tags."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.index.rows import StudyRow
from dicom_node.store.schema import jobs, series, studies, tags, verdicts
from dicom_node.store.states import JobState, Origin, SeriesState, StudyState
from dicom_node.store.work.rows import DecideStudy, SeriesEvidence, TagRow, VerdictRow

_STUDY_COLUMNS = [studies.c[name] for name in StudyRow.__dataclass_fields__]
_TAG_COLUMNS = [tags.c[name] for name in TagRow.__dataclass_fields__]


class Studies:
    """Studies: state, evidence, verdicts, tags."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, study_instance_uid: str) -> StudyRow:
        """One study, or `NotFoundError`."""
        statement = sa.select(*_STUDY_COLUMNS).where(studies.c.study_instance_uid == study_instance_uid)
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            raise NotFoundError("study", study_instance_uid)
        return StudyRow(row[0], StudyState(row[1]), *row[2:])

    def list(self, *, state: StudyState | None = None, limit: int = 100, offset: int = 0) -> tuple[StudyRow, ...]:
        """Studies, the latest arrival first."""
        statement = sa.select(*_STUDY_COLUMNS).order_by(studies.c.last_arrival_at.desc(), studies.c.study_instance_uid)
        if state is not None:
            statement = statement.where(studies.c.state == state.value)
        with self._database.read() as connection:
            rows = connection.execute(statement.limit(limit).offset(offset))
            return tuple(StudyRow(row[0], StudyState(row[1]), *row[2:]) for row in rows)

    def due(self, *, limit: int = 100) -> tuple[StudyRow, ...]:
        """Open studies of which no series is receiving any more, the oldest first."""
        is_receiving = sa.select(series.c.series_instance_uid).where(
            series.c.study_instance_uid == studies.c.study_instance_uid, series.c.state == SeriesState.RECEIVING.value
        )
        statement = (
            sa.select(*_STUDY_COLUMNS)
            .where(studies.c.state == StudyState.OPEN.value, ~is_receiving.exists())
            .order_by(studies.c.last_arrival_at, studies.c.study_instance_uid)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(StudyRow(row[0], StudyState(row[1]), *row[2:]) for row in connection.execute(statement))

    def evidence(self, study_instance_uid: str) -> tuple[SeriesEvidence, ...]:
        """What a `DecideStudy` rule gets to see."""
        with self._database.read() as connection:
            return study_evidence(connection, study_instance_uid)

    def decide(self, study_instance_uid: str, decide_study: DecideStudy) -> StudyState:
        """Apply a rule to the evidence of now, in one transaction."""
        with self._database.write() as connection:
            return decide_study_state(connection, study_instance_uid, decide_study)

    def verdicts(self, study_instance_uid: str) -> tuple[VerdictRow, ...]:
        """Verdicts of the current generations of a study's series."""
        statement = (
            sa.select(
                jobs.c.study_instance_uid,
                jobs.c.series_instance_uid,
                jobs.c.generation,
                jobs.c.pipeline_digest,
                verdicts.c.stack_number,
                verdicts.c.verdict,
                verdicts.c.probability,
                verdicts.c.reasons,
                verdicts.c.report,
                verdicts.c.found_at,
            )
            .join_from(verdicts, jobs, verdicts.c.job_id == jobs.c.id)
            .join(series, series.c.series_instance_uid == jobs.c.series_instance_uid)
            .where(jobs.c.study_instance_uid == study_instance_uid, jobs.c.generation == series.c.generation)
            .order_by(jobs.c.series_instance_uid, verdicts.c.stack_number, verdicts.c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return tuple(
            VerdictRow(
                *row[:7], reasons=tuple(json.loads(row.reasons)), report=json.loads(row.report), found_at=row.found_at
            )
            for row in rows
        )

    def tags(self, study_instance_uid: str) -> tuple[TagRow, ...]:
        """Tags of a study and its series."""
        statement = (
            sa.select(*_TAG_COLUMNS)
            .where(tags.c.study_instance_uid == study_instance_uid)
            .order_by(tags.c.series_instance_uid, tags.c.name)
        )
        with self._database.read() as connection:
            rows = [row._asdict() for row in connection.execute(statement)]
        return tuple(
            TagRow(**values | {"series_instance_uid": values["series_instance_uid"] or None}) for values in rows
        )

    def tag(
        self,
        study_instance_uid: str,
        name: str,
        value: str,
        *,
        set_by: str,
        now: datetime,
        series_instance_uid: str | None = None,
    ) -> None:
        """Set a tag; an earlier value is replaced."""
        with self._database.write() as connection:
            set_tag(
                connection,
                study_instance_uid=study_instance_uid,
                series_instance_uid=series_instance_uid or "",
                name=name,
                value=value,
                set_by=set_by,
                now=now,
            )


def study_evidence(connection: sa.Connection, study_instance_uid: str) -> tuple[SeriesEvidence, ...]:
    """State, jobs and verdicts of a study's received series, each in its current generation."""
    of_current_generation = jobs.c.generation == series.c.generation
    its_jobs = (
        sa.select(jobs.c.series_instance_uid, jobs.c.state)
        .join(series, series.c.series_instance_uid == jobs.c.series_instance_uid)
        .where(jobs.c.study_instance_uid == study_instance_uid, of_current_generation)
        .order_by(jobs.c.id)
    )
    its_verdicts = (
        sa.select(jobs.c.series_instance_uid, verdicts.c.verdict, verdicts.c.report)
        .join_from(verdicts, jobs, verdicts.c.job_id == jobs.c.id)
        .join(series, series.c.series_instance_uid == jobs.c.series_instance_uid)
        .where(jobs.c.study_instance_uid == study_instance_uid, of_current_generation)
        .order_by(verdicts.c.id)
    )
    its_series = (
        sa.select(series.c.series_instance_uid, series.c.modality, series.c.state, series.c.skip_reason)
        .where(series.c.study_instance_uid == study_instance_uid, series.c.origin == Origin.RECEIVED.value)
        .order_by(series.c.series_instance_uid)
    )
    job_states: defaultdict[str, list[JobState]] = defaultdict(list)
    for uid, state in connection.execute(its_jobs):
        job_states[uid].append(JobState(state))
    found: defaultdict[str, list[str]] = defaultdict(list)
    codes: defaultdict[str, set[str]] = defaultdict(set)
    for uid, verdict, report in connection.execute(its_verdicts):
        found[uid].append(verdict)
        codes[uid] |= {remark["code"] for remark in json.loads(report).get("remarks", ())}
    return tuple(
        SeriesEvidence(
            uid,
            modality,
            SeriesState(state),
            skip_reason,
            tuple(job_states[uid]),
            tuple(found[uid]),
            frozenset(codes[uid]),
        )
        for uid, modality, state, skip_reason in connection.execute(its_series)
    )


def decide_study_state(connection: sa.Connection, study_instance_uid: str, decide_study: DecideStudy) -> StudyState:
    """Apply a rule within the caller's write transaction, in which nobody else can change the evidence."""
    state = decide_study(study_evidence(connection, study_instance_uid))
    connection.execute(
        sa.update(studies).where(studies.c.study_instance_uid == study_instance_uid).values(state=state.value)
    )
    return state


def set_tag(
    connection: sa.Connection,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    name: str,
    value: str,
    set_by: str,
    now: datetime,
) -> None:
    """Set a tag within the caller's write transaction; ``series_instance_uid`` is empty for the study itself."""
    key = {"study_instance_uid": study_instance_uid, "series_instance_uid": series_instance_uid, "name": name}
    values = {"value": value, "set_by": set_by, "set_at": now}
    if connection.execute(sa.update(tags).filter_by(**key).values(**values)).rowcount == 0:
        connection.execute(sa.insert(tags).values(**key, **values))

"""Studies: state, the evidence behind it, verdicts and tags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.index.gate_state import GateTerms, gate_state
from dicom_node.store.index.rows import StudyRow
from dicom_node.store.schema import jobs, series, studies, tags, verdicts, without_index
from dicom_node.store.states import SeriesState, StudyState
from dicom_node.store.work.evidence import series_evidence, study_evidence
from dicom_node.store.work.rows import DecideStudy, SeriesEvidence, StudyEvidence, TagRow, VerdictRow
from dicom_node.store.work.tags import set_tag

STUDY_COLUMNS = [studies.c[name] for name in StudyRow.__dataclass_fields__]
_TAG_COLUMNS = [tags.c[name] for name in TagRow.__dataclass_fields__]


class Studies:
    """Studies: state, evidence, verdicts, tags."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, study_instance_uid: str) -> StudyRow:
        """Return one study, or raise `NotFoundError`."""
        statement = sa.select(*STUDY_COLUMNS).where(studies.c.study_instance_uid == study_instance_uid)
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            raise NotFoundError("study", study_instance_uid)
        return study_row_of(row)

    def several(self, study_instance_uids: Sequence[str]) -> dict[str, StudyRow]:
        """Return studies by UID, at most some hundred; those that the index does not have are left out."""
        statement = sa.select(*STUDY_COLUMNS).where(studies.c.study_instance_uid.in_(study_instance_uids))
        with self._database.read() as connection:
            return {row.study_instance_uid: study_row_of(row) for row in connection.execute(statement)}

    def list(self, *, state: StudyState | None = None, limit: int = 100, offset: int = 0) -> tuple[StudyRow, ...]:
        """Return studies, the latest arrival first."""
        statement = sa.select(*STUDY_COLUMNS).order_by(studies.c.last_arrival_at.desc(), studies.c.study_instance_uid)
        if state is not None:
            statement = statement.where(studies.c.state == state.value)
        with self._database.read() as connection:
            rows = connection.execute(statement.limit(limit).offset(offset))
            return tuple(map(study_row_of, rows))

    def in_gate_state(self, state: str, terms: GateTerms, *, limit: int = 100, offset: int = 0) -> tuple[StudyRow, ...]:
        """Return studies that are in a state after rules and decisions, the latest arrival first."""
        statement = (
            sa.select(*STUDY_COLUMNS)
            .where(gate_state(terms) == state)
            .order_by(studies.c.last_arrival_at.desc(), studies.c.study_instance_uid)
        )
        with self._database.read() as connection:
            return tuple(map(study_row_of, connection.execute(statement.limit(limit).offset(offset))))

    def due(self, gate_digest: str, *, limit: int = 100) -> tuple[StudyRow, ...]:
        """Return studies to be judged, the oldest first.

        These are open studies without a receiving series, and those that were judged by other rules or for another
        pipeline than ``gate_digest`` names.
        """
        is_receiving = sa.select(series.c.series_instance_uid).where(
            series.c.study_instance_uid == studies.c.study_instance_uid,
            without_index(series.c.state) == SeriesState.RECEIVING.value,
        )
        statement = (
            sa.select(*STUDY_COLUMNS)
            .where(
                sa.or_(
                    sa.and_(studies.c.state == StudyState.OPEN.value, ~is_receiving.exists()),
                    sa.and_(
                        studies.c.state != StudyState.OPEN.value,
                        sa.or_(studies.c.gate_digest.is_(None), studies.c.gate_digest != gate_digest),
                    ),
                )
            )
            .order_by(studies.c.last_arrival_at, studies.c.study_instance_uid)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(map(study_row_of, connection.execute(statement)))

    def evidence(self, study_instance_uid: str) -> StudyEvidence:
        """Return the evidence that a `DecideStudy` rule gets."""
        with self._database.read() as connection:
            return study_evidence(connection, study_instance_uid)

    def series_evidence(self, study_instance_uids: Sequence[str]) -> dict[str, tuple[SeriesEvidence, ...]]:
        """Return the evidence on the received series of studies, without the fingerprint, which takes long."""
        with self._database.read() as connection:
            return {uid: known for uid, (known, _) in series_evidence(connection, study_instance_uids).items()}

    def decide(self, study_instance_uid: str, decide_study: DecideStudy, now: datetime) -> StudyState:
        """Apply a rule to the current evidence, in one transaction."""
        with self._database.write() as connection:
            return decide_study_state(connection, study_instance_uid, decide_study, now)

    def verdicts(self, study_instance_uid: str) -> tuple[VerdictRow, ...]:
        """Return the verdicts of the current generations of a study's series."""
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

    def reports(self, series_instance_uid: str) -> tuple[Mapping[str, Any], ...]:
        """Return what was found in the current generation of a series, in the order of its stacks."""
        its_study = sa.select(series.c.study_instance_uid).where(series.c.series_instance_uid == series_instance_uid)
        with self._database.read() as connection:
            study_instance_uid = connection.execute(its_study).scalar()
        if study_instance_uid is None:
            raise NotFoundError("series", series_instance_uid)
        found = self.verdicts(study_instance_uid)
        return tuple(verdict.report for verdict in found if verdict.series_instance_uid == series_instance_uid)

    def newest_reports(self, *, limit: int = 100) -> tuple[Mapping[str, Any], ...]:
        """Return what was found last, in any series, the newest first."""
        statement = sa.select(verdicts.c.report).order_by(verdicts.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return tuple(json.loads(report) for report in connection.execute(statement).scalars())

    def tags(self, study_instance_uid: str) -> tuple[TagRow, ...]:
        """Return the tags of a study and its series."""
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


def study_row_of(row: sa.Row[Any]) -> StudyRow:
    """Return a row of ``studies``, selected as `STUDY_COLUMNS`, as a value."""
    values = row._asdict()
    values["state"] = StudyState(values["state"])
    return StudyRow(**values)


def decide_study_state(
    connection: sa.Connection, study_instance_uid: str, decide_study: DecideStudy, now: datetime
) -> StudyState:
    """Apply a rule within the caller's write transaction, so that nobody else can change the evidence meanwhile."""
    evidence = study_evidence(connection, study_instance_uid)
    judgement = decide_study(evidence)
    connection.execute(
        sa.update(studies)
        .where(studies.c.study_instance_uid == study_instance_uid)
        .values(
            state=judgement.state.value,
            reason=judgement.reason,
            judged_at=now,
            gate_digest=judgement.gate_digest,
            evidence_fingerprint=evidence.fingerprint,
            announced_for=None,
        )
    )
    return judgement.state

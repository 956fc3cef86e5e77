"""Studies: state, the evidence behind it, verdicts and tags."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import NotFoundError
from dicom_node.store.index.rows import StudyRow
from dicom_node.store.schema import conflicts, deleted_sources, instances, jobs, series, studies, tags, verdicts
from dicom_node.store.states import JobState, Origin, SeriesState, StudyState
from dicom_node.store.work.rows import DecideStudy, SeriesEvidence, StudyEvidence, TagRow, VerdictRow

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

    def list(self, *, state: StudyState | None = None, limit: int = 100, offset: int = 0) -> tuple[StudyRow, ...]:
        """Return studies, the latest arrival first."""
        statement = sa.select(*STUDY_COLUMNS).order_by(studies.c.last_arrival_at.desc(), studies.c.study_instance_uid)
        if state is not None:
            statement = statement.where(studies.c.state == state.value)
        with self._database.read() as connection:
            rows = connection.execute(statement.limit(limit).offset(offset))
            return tuple(map(study_row_of, rows))

    def due(self, gate_digest: str, *, limit: int = 100) -> tuple[StudyRow, ...]:
        """Return studies to be judged, the oldest first.

        These are open studies without a receiving series, and those that were judged by other rules or for another
        pipeline than ``gate_digest`` names.
        """
        is_receiving = sa.select(series.c.series_instance_uid).where(
            series.c.study_instance_uid == studies.c.study_instance_uid, series.c.state == SeriesState.RECEIVING.value
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


def study_evidence(connection: sa.Connection, study_instance_uid: str) -> StudyEvidence:
    """Return state, jobs, verdicts and conflicts of a study's received series, each in its current generation."""
    of_current_generation = jobs.c.generation == series.c.generation
    its_jobs = (
        sa.select(jobs.c.series_instance_uid, jobs.c.state)
        .join(series, series.c.series_instance_uid == jobs.c.series_instance_uid)
        .where(jobs.c.study_instance_uid == study_instance_uid, of_current_generation)
        .order_by(jobs.c.id)
    )
    its_verdicts = (
        sa.select(
            jobs.c.series_instance_uid,
            verdicts.c.verdict,
            verdicts.c.remark_codes,
            jobs.c.pipeline_digest,
            verdicts.c.stack_number,
        )
        .join_from(verdicts, jobs, verdicts.c.job_id == jobs.c.id)
        .join(series, series.c.series_instance_uid == jobs.c.series_instance_uid)
        .where(jobs.c.study_instance_uid == study_instance_uid, of_current_generation)
        .order_by(verdicts.c.id)
    )
    its_series = (
        sa.select(
            series.c.series_instance_uid, series.c.modality, series.c.state, series.c.skip_reason, series.c.generation
        )
        .where(series.c.study_instance_uid == study_instance_uid, series.c.origin == Origin.RECEIVED.value)
        .order_by(series.c.series_instance_uid)
    )
    job_states: defaultdict[str, list[JobState]] = defaultdict(list)
    for uid, state in connection.execute(its_jobs):
        job_states[uid].append(JobState(state))
    found: defaultdict[str, list[str]] = defaultdict(list)
    codes: defaultdict[str, set[str]] = defaultdict(set)
    digests: defaultdict[str, set[str]] = defaultdict(set)
    said: list[object] = []
    for uid, verdict, remark_codes, pipeline_digest, stack_number in connection.execute(its_verdicts):
        found[uid].append(verdict)
        codes[uid] |= set(json.loads(remark_codes))
        digests[uid].add(pipeline_digest)
        said.append([uid, stack_number, verdict, pipeline_digest, sorted(codes[uid])])
    set_aside: Counter[str] = Counter()
    for uid, digest in connection.execute(_conflicts_of(study_instance_uid)):
        set_aside[uid] += 1
        said.append([uid, "conflict", digest])
    known = tuple(
        SeriesEvidence(
            uid,
            modality,
            SeriesState(state),
            skip_reason,
            tuple(job_states[uid]),
            tuple(found[uid]),
            frozenset(codes[uid]),
            generation,
            frozenset(digests[uid]),
            set_aside[uid],
        )
        for uid, modality, state, skip_reason, generation in connection.execute(its_series)
    )
    said += [[one.series_instance_uid, one.generation, _state_before_deletion(one), one.skip_reason] for one in known]
    fingerprint, n_patients = _received(connection, study_instance_uid, said)
    return StudyEvidence(known, fingerprint, n_patients)


def _conflicts_of(study_instance_uid: str) -> sa.Select[Any]:
    """Return unsettled conflicts of the study's received series: contents between which nobody has chosen yet."""
    return (
        sa.select(conflicts.c.series_instance_uid, conflicts.c.digest)
        .join(series, series.c.series_instance_uid == conflicts.c.series_instance_uid)
        .where(
            series.c.study_instance_uid == study_instance_uid,
            series.c.origin == Origin.RECEIVED.value,
            conflicts.c.settled_at.is_(None),
        )
        .order_by(conflicts.c.id)
    )


def _state_before_deletion(evidence: SeriesEvidence) -> str:
    """Return the state of a series for the fingerprint: that sources were deleted is no new evidence."""
    if evidence.state is not SeriesState.DELETED:
        return evidence.state.value
    return (SeriesState.COMPLETE if evidence.skip_reason is None else SeriesState.SKIPPED).value


def _received(connection: sa.Connection, study_instance_uid: str, said: Sequence[object]) -> tuple[str, int]:
    """Return the SHA-256 over all evidence on a study, including the bytes of its instances, and how many patients.

    Instances that retention deleted count as before, so that decisions and doubts outlive the deletion.
    """
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    patients: set[str | None] = set()
    received = (
        sa.select(instances.c.sop_instance_uid, instances.c.digest, instances.c.patient_id)
        .where(instances.c.study_instance_uid == study_instance_uid, instances.c.origin == Origin.RECEIVED.value)
        .order_by(instances.c.sop_instance_uid)
    )
    deleted = (
        sa.select(deleted_sources.c.instances, deleted_sources.c.patient_ids)
        .join(series, series.c.series_instance_uid == deleted_sources.c.series_instance_uid)
        .where(series.c.study_instance_uid == study_instance_uid, series.c.state == SeriesState.DELETED.value)
    )
    lines = []
    for uid, content, patient_id in connection.execute(received):
        lines.append(f"{uid} {content}")
        patients.add(patient_id)
    for of_series, patient_ids in connection.execute(deleted):
        lines += of_series.splitlines()
        patients |= set(json.loads(patient_ids))
    for line in sorted(lines, key=lambda one: one.partition(" ")[0]):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest(), len(patients)


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

"""What the state of a study depends on: series with their jobs, verdicts and conflicts, and a fingerprint of it all."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dicom_node.store.schema import conflicts, deleted_sources, instances, jobs, series, verdicts, without_index
from dicom_node.store.states import JobState, Origin, SeriesState
from dicom_node.store.work.rows import SeriesEvidence, StudyEvidence


def study_evidence(connection: sa.Connection, study_instance_uid: str) -> StudyEvidence:
    """Return state, jobs, verdicts and conflicts of a study's received series, each in its current generation."""
    known, said = series_evidence(connection, [study_instance_uid])[study_instance_uid]
    fingerprint, n_patients = _received(connection, study_instance_uid, said)
    return StudyEvidence(known, fingerprint, n_patients)


def series_evidence(
    connection: sa.Connection, study_instance_uids: Sequence[str]
) -> dict[str, tuple[tuple[SeriesEvidence, ...], list[object]]]:
    """Return by study what is known of its received series, and the same in the form that the fingerprint covers."""
    of_current_generation = jobs.c.generation == series.c.generation
    its_jobs = (
        sa.select(jobs.c.series_instance_uid, jobs.c.state)
        .join(series, series.c.series_instance_uid == jobs.c.series_instance_uid)
        .where(jobs.c.study_instance_uid.in_(study_instance_uids), of_current_generation)
        .order_by(jobs.c.id)
    )
    its_verdicts = (
        sa.select(
            jobs.c.study_instance_uid,
            jobs.c.series_instance_uid,
            verdicts.c.verdict,
            verdicts.c.remark_codes,
            jobs.c.pipeline_digest,
            verdicts.c.stack_number,
        )
        .join_from(verdicts, jobs, verdicts.c.job_id == jobs.c.id)
        .join(series, series.c.series_instance_uid == jobs.c.series_instance_uid)
        .where(jobs.c.study_instance_uid.in_(study_instance_uids), of_current_generation)
        .order_by(verdicts.c.id)
    )
    its_series = (
        sa.select(
            series.c.study_instance_uid,
            series.c.series_instance_uid,
            series.c.modality,
            series.c.state,
            series.c.skip_reason,
            series.c.generation,
        )
        .where(series.c.study_instance_uid.in_(study_instance_uids), series.c.origin == Origin.RECEIVED.value)
        .order_by(series.c.series_instance_uid)
    )
    job_states: defaultdict[str, list[JobState]] = defaultdict(list)
    for uid, state in connection.execute(its_jobs):
        job_states[uid].append(JobState(state))
    found: defaultdict[str, list[str]] = defaultdict(list)
    codes: defaultdict[str, set[str]] = defaultdict(set)
    digests: defaultdict[str, set[str]] = defaultdict(set)
    said: dict[str, list[object]] = {uid: [] for uid in study_instance_uids}
    for study, uid, verdict, remark_codes, pipeline_digest, stack_number in connection.execute(its_verdicts):
        found[uid].append(verdict)
        codes[uid] |= set(json.loads(remark_codes))
        digests[uid].add(pipeline_digest)
        said[study].append([uid, stack_number, verdict, pipeline_digest, sorted(codes[uid])])
    set_aside: Counter[str] = Counter()
    for study, uid, digest in connection.execute(_conflicts_of(study_instance_uids)):
        set_aside[uid] += 1
        said[study].append([uid, "conflict", digest])
    known: dict[str, list[SeriesEvidence]] = {uid: [] for uid in study_instance_uids}
    for study, uid, modality, state, skip_reason, generation in connection.execute(its_series):
        known[study].append(
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
        )
    for study, some in known.items():
        said[study] += [
            [one.series_instance_uid, one.generation, _state_before_deletion(one), one.skip_reason] for one in some
        ]
    return {uid: (tuple(known[uid]), said[uid]) for uid in study_instance_uids}


def _conflicts_of(study_instance_uids: Sequence[str]) -> sa.Select[Any]:
    """Return unsettled conflicts of the studies' received series: contents between which nobody has chosen yet."""
    return (
        sa.select(series.c.study_instance_uid, conflicts.c.series_instance_uid, conflicts.c.digest)
        .join(series, series.c.series_instance_uid == conflicts.c.series_instance_uid)
        .where(
            series.c.study_instance_uid.in_(study_instance_uids),
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
        .where(
            series.c.study_instance_uid == study_instance_uid,
            without_index(series.c.state) == SeriesState.DELETED.value,
        )
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

"""The state of a study after rules and people's decisions, as an expression, so that the index can select by it.

`dicom_node.gate.decisions.standpoint_of` says the same of one study, with the reason; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.store.schema import decisions, jobs, series, studies, verdicts
from dicom_node.store.states import StudyState

HELD: Final = "held"
_HOLD, _RELEASE = "hold", "release"

# A private block of group 0099 in answers of QIDO-RS (PS3.5 7.8.1); documented in docs/conformance.md.
PRIVATE_CREATOR: Final = "DICOMNODE"
PRIVATE_CREATOR_TAG: Final = "00990010"
STATE_TAG: Final = "00991001"
VERDICTS_TAG: Final = "00991002"


@dataclass(frozen=True, slots=True)
class GateTerms:
    """The present rules, as far as states depend on them.

    Attributes
    ----------
    digest
        Of the rules and the pipeline; studies that were judged by others are open.
    may_release_blocked
        Whether a release of a blocked study counts.
    """

    digest: str
    may_release_blocked: bool


@lru_cache(maxsize=16)
def gate_state(terms: GateTerms) -> sa.ColumnElement[str]:
    """Return an expression for the state of a row of ``studies``."""
    state = studies.c.state
    may_be_released = [state != StudyState.CLEARED.value]
    if not terms.may_release_blocked:
        may_be_released.append(state != StudyState.BLOCKED.value)
    is_released = sa.and_(
        *may_be_released,
        _newest(decisions.c.kind) == _RELEASE,
        _newest(decisions.c.evidence_fingerprint) == studies.c.evidence_fingerprint,
    )
    is_open = sa.or_(
        state == StudyState.OPEN.value, studies.c.gate_digest.is_(None), studies.c.gate_digest != terms.digest
    )
    return sa.case(
        (_newest(decisions.c.kind) == _HOLD, HELD),
        (is_open, StudyState.OPEN.value),
        (is_released, StudyState.CLEARED.value),
        else_=state,
    )


# Of two decisions at the same moment, the one that keeps the study from leaving counts.
NEWEST_FIRST: Final = (decisions.c.decided_at.desc(), decisions.c.kind == _RELEASE, decisions.c.id.desc())


def _newest(column: sa.Column[Any]) -> sa.ScalarSelect[Any]:
    """Return a column of the newest decision on a study; NULL if there is none."""
    of_study = sa.select(column).where(decisions.c.study_instance_uid == studies.c.study_instance_uid)
    return of_study.order_by(*NEWEST_FIRST).limit(1).correlate(studies).scalar_subquery()


def has_verdict(words: Sequence[str], level: str) -> sa.ColumnElement[bool]:
    """Return a condition on ``series``, or on ``studies``: one of these verdicts in a current generation."""
    other = series.alias("series_with_verdict")
    found = (
        sa.select(verdicts.c.id)
        .join_from(verdicts, jobs, verdicts.c.job_id == jobs.c.id)
        .join(other, other.c.series_instance_uid == jobs.c.series_instance_uid)
        .where(jobs.c.generation == other.c.generation, verdicts.c.verdict.in_(words))
    )
    if level == "study":
        return found.where(jobs.c.study_instance_uid == studies.c.study_instance_uid).correlate(studies).exists()
    return found.where(jobs.c.series_instance_uid == series.c.series_instance_uid).correlate(series).exists()


def verdicts_of(connection: sa.Connection, uids: Sequence[str], level: str) -> dict[str, list[str]]:
    """Return the verdicts of the current generations of series, or of all series of studies, by UID."""
    by_uid: dict[str, list[str]] = {}
    for uid, verdict in connection.execute(_VERDICTS_BY[level], {"uids": uids}):
        by_uid.setdefault(uid, []).append(verdict)
    return by_uid


def _verdicts_by(key: sa.Column[str]) -> sa.Select[Any]:
    return (
        sa.select(key, verdicts.c.verdict)
        .join_from(verdicts, jobs, verdicts.c.job_id == jobs.c.id)
        .join(series, series.c.series_instance_uid == jobs.c.series_instance_uid)
        .where(key.in_(sa.bindparam("uids", expanding=True)), jobs.c.generation == series.c.generation)
        .distinct()
        .order_by(verdicts.c.verdict)
    )


_VERDICTS_BY: Final = {
    "study": _verdicts_by(jobs.c.study_instance_uid),
    "series": _verdicts_by(jobs.c.series_instance_uid),
}


def private_members(state: str, found: Sequence[str]) -> Mapping[str, Any]:
    """Return state and verdicts as private attributes in DICOM JSON."""
    members: dict[str, Any] = {
        PRIVATE_CREATOR_TAG: {"vr": "LO", "Value": [PRIVATE_CREATOR]},
        STATE_TAG: {"vr": "CS", "Value": [state.upper()]},
    }
    if found:
        members[VERDICTS_TAG] = {"vr": "CS", "Value": [word.upper() for word in found]}
    return members

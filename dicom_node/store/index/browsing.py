"""The list of studies as people look at it: the latest arrival first, searched, filtered, page after page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.index.gate_state import GateTerms, gate_state, has_verdict, verdicts_of
from dicom_node.store.index.matching import conditions
from dicom_node.store.index.name_matching import begins_with
from dicom_node.store.schema import jobs, series, studies
from dicom_node.store.states import JobState, Origin, SeriesState, StudyState

MAX_TEXT: Final = 64  # characters that are searched for, as long as the attributes may be (PS3.5 6.2)
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+){2,}")
_DATE: Final = re.compile(r"[0-9]{8}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which studies to list; what is empty selects nothing away.

    Attributes
    ----------
    text
        Beginning of a patient's name or ID or of an accession number, or a whole Study or Series Instance UID.
    states, verdicts
        Any of these words.
    dates
        First and last study date, each eight digits or empty.
    """

    text: str = ""
    states: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    modality: str = ""
    dates: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the list: that of a study which was shown."""

    last_arrival_at: datetime
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """What a list shows of a study; texts are those of its sender."""

    study_instance_uid: str
    patient_name: str
    patient_id: str
    patient_birth_date: str
    study_date: str
    study_description: str
    accession_number: str
    modalities: tuple[str, ...]  # of received series
    n_series: int  # received ones
    n_instances: int
    verdicts: tuple[str, ...]
    seen_series: str | None  # one that a model has seen
    last_arrival_at: datetime


class Browsing:
    """Pages of the list of studies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(
        self,
        wanted: Wanted,
        terms: GateTerms,
        *,
        after: Place | None = None,
        limit: int = 50,
        is_oldest_first: bool = False,
    ) -> tuple[Place, ...]:
        """Return the places of studies, the latest arrival first, or the oldest.

        Parameters
        ----------
        after
            Only studies that come after this place. However far it is, nothing before it is read.
        """
        at, uid = studies.c.last_arrival_at, studies.c.study_instance_uid
        statement = sa.select(at, uid).where(*_conditions(wanted, terms))
        if after is not None:
            before, last = after.last_arrival_at, after.study_instance_uid
            is_reached = at >= before if is_oldest_first else at <= before
            is_beyond = at > before if is_oldest_first else at < before
            statement = statement.where(is_reached, sa.or_(is_beyond, uid > last))
        statement = statement.order_by(at if is_oldest_first else at.desc(), uid).limit(limit)
        with self._database.read() as connection:
            return tuple(Place(*row) for row in connection.execute(statement))

    def listed(self, study_instance_uids: Sequence[str]) -> tuple[ListedStudy, ...]:
        """Return what a list shows of these studies, in their order; those that have gone are left out."""
        with self._database.read() as connection:
            rows = connection.execute(_LISTED, {"uids": list(study_instance_uids)})
            found = {row.study_instance_uid: row for row in rows}
            totals: dict[str, list[Any]] = {uid: [] for uid in found}
            for uid, *total in connection.execute(_TOTALS, {"uids": list(found)}):
                totals[uid].append(total)
            seen = {study: of_study for study, of_study in connection.execute(_SEEN, {"uids": list(found)})}  # noqa: C416
            verdicts = verdicts_of(connection, list(found), "study") if found else {}
        return tuple(
            _listed(found[uid], totals[uid], verdicts.get(uid, []), seen.get(uid))
            for uid in study_instance_uids
            if uid in found
        )

    def count(self, terms: GateTerms, *, states: Sequence[str] = ()) -> dict[str, int]:
        """Return the number of studies in each state after rules and decisions; only those of ``states`` if given."""
        state = gate_state(terms)
        statement = sa.select(state.label("gate_state"), sa.func.count()).group_by("gate_state")
        if states:
            statement = statement.where(*_in_states(states, terms))
        with self._database.read() as connection:
            return {str(word): int(number) for word, number in connection.execute(statement)}


def _conditions(wanted: Wanted, terms: GateTerms) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    text = wanted.text.strip()[:MAX_TEXT]
    if text:
        found.append(studies.c.study_instance_uid.in_(_named(text)))
    if wanted.modality:
        found += conditions("study", {"ModalitiesInStudy": re.sub(r"[*?]", "", wanted.modality)})
    first, last = (date if _DATE.fullmatch(date) else "" for date in wanted.dates)
    if first or last:
        found += conditions("study", {"StudyDate": f"{first}-{last}"})
    if wanted.verdicts:
        found.append(has_verdict(wanted.verdicts, "study"))
    if wanted.states:
        found += _in_states(wanted.states, terms)
    return found


def _in_states(states: Sequence[str], terms: GateTerms) -> list[sa.ColumnElement[bool]]:
    """Return conditions on the state; the rules' own state is looked at first where it has to be the same."""
    found: list[sa.ColumnElement[bool]] = []
    if set(states) <= {StudyState.BLOCKED.value, StudyState.REVIEW.value}:
        found.append(studies.c.state.in_(states))
    return [*found, gate_state(terms).in_(states)]


def _named(text: str) -> sa.Select[tuple[str]] | sa.CompoundSelect[tuple[str]]:
    """Return the UIDs of studies that a person may mean; each part is found by an index of its own."""
    if _UID.fullmatch(text):
        exact = [sa.select(studies.c.study_instance_uid).where(studies.c.study_instance_uid == text)]
        exact.append(sa.select(series.c.study_instance_uid).where(series.c.series_instance_uid == text))
    else:
        exact = []
    literal = re.sub(r"[*?]", "", text)
    name = re.sub(r"\s*,\s*|\s+", "^", literal)  # as people write names: Doe, Jane
    return sa.union(
        *exact,
        sa.select(studies.c.study_instance_uid).where(begins_with(studies.c.patient_id, literal)),
        sa.select(studies.c.study_instance_uid).where(begins_with(studies.c.accession_number, literal)),
        sa.select(studies.c.study_instance_uid).where(*conditions("study", {"PatientName": f"{name}*"})),
    )


_UIDS: Final[sa.BindParameter[Any]] = sa.bindparam("uids", expanding=True)
_LISTED: Final = sa.select(studies.c.study_instance_uid, studies.c.attributes, studies.c.last_arrival_at).where(
    studies.c.study_instance_uid.in_(_UIDS)
)
_TOTALS: Final = (
    sa.select(series.c.study_instance_uid, series.c.modality, sa.func.count(), sa.func.sum(series.c.n_instances))
    .where(series.c.study_instance_uid.in_(_UIDS), series.c.origin == Origin.RECEIVED.value)
    .group_by(series.c.study_instance_uid, series.c.modality)
    .order_by(series.c.modality)
)
_SEEN: Final = (
    sa.select(jobs.c.study_instance_uid, sa.func.min(jobs.c.series_instance_uid))
    .join(series, series.c.series_instance_uid == jobs.c.series_instance_uid)
    .where(
        jobs.c.study_instance_uid.in_(_UIDS),
        jobs.c.state == JobState.SUCCEEDED.value,
        jobs.c.generation == series.c.generation,
        series.c.state == SeriesState.COMPLETE.value,
    )
    .group_by(jobs.c.study_instance_uid)
)


def _listed(
    row: Any,  # noqa: ANN401 - a row of `_LISTED`
    totals: Sequence[Sequence[Any]],
    verdicts: Sequence[str],
    seen_series: str | None,
) -> ListedStudy:
    attributes: Mapping[str, Any] = json.loads(row.attributes)
    return ListedStudy(
        study_instance_uid=row.study_instance_uid,
        patient_name=text_of(attributes, "00100010"),
        patient_id=text_of(attributes, "00100020"),
        patient_birth_date=text_of(attributes, "00100030"),
        study_date=text_of(attributes, "00080020"),
        study_description=text_of(attributes, "00081030"),
        accession_number=text_of(attributes, "00080050"),
        modalities=tuple(modality for modality, _, _ in totals if modality),
        n_series=sum(int(n_series) for _, n_series, _ in totals),
        n_instances=sum(int(n_instances or 0) for _, _, n_instances in totals),
        verdicts=tuple(verdicts),
        seen_series=seen_series,
        last_arrival_at=row.last_arrival_at,
    )


def text_of(attributes: Mapping[str, Any], tag: str) -> str:
    """Return the values of an attribute in DICOM JSON as one text; of a person's name, its first group that says it."""
    values = attributes.get(tag, {}).get("Value") or []
    return ", ".join(_said(value) for value in values if value is not None)


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return str(value.get("Alphabetic") or value.get("Ideographic") or value.get("Phonetic") or "")
    return str(value)

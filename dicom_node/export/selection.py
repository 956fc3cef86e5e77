"""Which studies may leave, and which of their objects leave with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from dicom_node.gate.decisions import Standpoint, list_standpoints, standpoints
from dicom_node.gate.judging import standing_of
from dicom_node.gate.rules import StudyRules
from dicom_node.gate.severity import Standing
from dicom_node.store import InstanceRow, JobState, NotFoundError, ObjectStore, SeriesEvidence, Store

_SEEN: Final = frozenset(
    {Standing.DEFACED, Standing.NOT_APPLICABLE, Standing.PARTLY_SEEN, Standing.INDETERMINATE, Standing.FACE_PRESENT}
)
_MAX_STUDIES: Final = 10**7


@dataclass(frozen=True, slots=True)
class GateTerms:
    """Rules and pipeline by which a study must have been judged to leave."""

    rules: StudyRules
    pipeline_digest: str
    digest: str


@dataclass(frozen=True, slots=True)
class StoredSource:
    """An object of the store, readable from another process."""

    objects: ObjectStore
    digest: str

    def open(self) -> BinaryIO:
        """Return a new stream of its Part 10 file."""
        return self.objects.open(self.digest)


@dataclass(frozen=True, slots=True)
class SeriesToCopy:
    """The objects of a series that leave: its images, and the node's results on them."""

    images: tuple[InstanceRow, ...]
    results: tuple[InstanceRow, ...]
    is_face_gone: bool


def select_studies(store: Store, terms: GateTerms, cohort: Sequence[str] | None) -> list[tuple[str, Standpoint | None]]:
    """Return the studies of a cohort in its order, or all of the node, with their standpoints; None if unknown."""
    if cohort is None:
        found = list_standpoints(store, terms.digest, terms.rules, limit=_MAX_STUDIES)
        return [(one.study.study_instance_uid, one) for one in reversed(found)]
    selected: list[tuple[str, Standpoint | None]] = []
    for uid in dict.fromkeys(cohort):
        try:
            (found_one,) = standpoints(store, [store.studies.get(uid)], terms.digest, terms.rules)
        except NotFoundError:
            selected.append((uid, None))
        else:
            selected.append((uid, found_one))
    return selected


def seen_series(series: Sequence[SeriesEvidence], terms: GateTerms) -> list[SeriesEvidence]:
    """Return the series that a model has looked at; no others leave."""
    return [one for one in series if _standing(one, terms) in _SEEN]


def objects_of(
    store: Store, seen: Sequence[SeriesEvidence], terms: GateTerms, *, is_released: bool
) -> Iterator[SeriesToCopy]:
    """Yield the objects of each series of a study, in the generation that was judged."""
    for series in seen:
        yield SeriesToCopy(
            store.series.instances(series.series_instance_uid, generation=series.generation),
            _results(store, series),
            is_released or _standing(series, terms) is Standing.DEFACED,
        )


def _standing(series: SeriesEvidence, terms: GateTerms) -> Standing:
    return standing_of(series, None if terms.rules.earlier_pipeline == "accepted" else terms.pipeline_digest)


def _results(store: Store, series: SeriesEvidence) -> tuple[InstanceRow, ...]:
    """Return the results of the current generation that no later one replaced."""
    jobs = [
        job
        for job in store.jobs.list(series_instance_uid=series.series_instance_uid, states=(JobState.SUCCEEDED,))
        if job.generation == series.generation
    ]
    rows: list[InstanceRow] = []
    for job in jobs:
        for result in store.jobs.results(job.id):
            if result.superseded_by_job_id is None:
                rows += store.search.find_instances(sop_instance_uid=result.sop_instance_uid)
    return tuple(rows)

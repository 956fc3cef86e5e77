"""Which studies may leave, and which of their objects leave with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from dicom_node.gate import leaving
from dicom_node.gate.decisions import Standpoint, list_standpoints, standpoints
from dicom_node.gate.leaving import compared_standing, results_of
from dicom_node.gate.rules import StudyRules
from dicom_node.gate.severity import Standing
from dicom_node.store import InstanceRow, NotFoundError, ObjectStore, SeriesEvidence, Store

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
    n_foreign: int  # objects among the images that no model looks at, which stay
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
    return leaving.seen_series(series, terms.rules, terms.pipeline_digest)


def objects_of(
    store: Store, seen: Sequence[SeriesEvidence], terms: GateTerms, *, is_released: bool
) -> Iterator[SeriesToCopy]:
    """Yield the objects of each series of a study, in the generation that was judged.

    A release says that a doubtful series shows no face. Where a model has found one, the person let the study leave
    with it, so its copies do not claim that it is gone.
    """
    for series in seen:
        standing = compared_standing(series, terms.rules, terms.pipeline_digest)
        images, n_foreign = leaving.images_of(store, series)
        yield SeriesToCopy(
            images,
            results_of(store, series),
            n_foreign,
            standing is Standing.DEFACED or (is_released and standing is not Standing.FACE_PRESENT),
        )

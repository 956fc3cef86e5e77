"""Which series and results leave with a study that may leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_node.gate.judging import standing_of
from dicom_node.gate.rules import StudyRules
from dicom_node.gate.severity import Standing
from dicom_node.store import InstanceRow, JobState, SeriesEvidence, Store
from inference.series.objects import IMAGE_CLASSES

_SEEN: Final = frozenset(
    {Standing.DEFACED, Standing.NOT_APPLICABLE, Standing.PARTLY_SEEN, Standing.INDETERMINATE, Standing.FACE_PRESENT}
)


def compared_standing(series: SeriesEvidence, rules: StudyRules, pipeline_digest: str) -> Standing:
    """Return the standing of a series; an earlier pipeline counts only if the rules do not accept it."""
    return standing_of(series, None if rules.earlier_pipeline == "accepted" else pipeline_digest)


def seen_series(series: Sequence[SeriesEvidence], rules: StudyRules, pipeline_digest: str) -> list[SeriesEvidence]:
    """Return the series that a model has looked at; no others leave, since a scout may show a face."""
    return [one for one in series if compared_standing(one, rules, pipeline_digest) in _SEEN]


def images_of(store: Store, series: SeriesEvidence) -> tuple[tuple[InstanceRow, ...], int]:
    """Return the images of a series in the generation that was judged, and how many other objects are among them.

    Objects of other SOP classes, such as PET, reports and segmentations of other software, may have the Series Instance
    UID of images. No model looks at them, and they may name or show anybody.
    """
    rows = store.series.instances(series.series_instance_uid, generation=series.generation)
    images = tuple(row for row in rows if row.sop_class_uid in IMAGE_CLASSES)
    return images, len(rows) - len(images)


def results_of(store: Store, series: SeriesEvidence) -> tuple[InstanceRow, ...]:
    """Return the results of the current generation of a series that no later one replaced."""
    rows: list[InstanceRow] = []
    for job in store.jobs.list(series_instance_uid=series.series_instance_uid, states=(JobState.SUCCEEDED,)):
        if job.generation != series.generation:
            continue
        for result in store.jobs.results(job.id):
            if result.superseded_by_job_id is None:
                rows += store.search.find_instances(sop_instance_uid=result.sop_instance_uid)
    return tuple(rows)

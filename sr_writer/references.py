"""References from a document to the instances that it is about, by study and series (PS3.3 C.17.2, table C.17-3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance to which a document refers."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def hierarchical_references(study_instance_uid: str, instances: Iterable[Reference]) -> list[Dataset]:
    """Return the items of a sequence of references to instances of one study, each series once, in the given order."""
    by_series: dict[str, list[Dataset]] = {}
    for instance in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.sop_class_uid
        reference.ReferencedSOPInstanceUID = instance.sop_instance_uid
        by_series.setdefault(instance.series_instance_uid, []).append(reference)
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = [_series_item(uid, references) for uid, references in by_series.items()]
    return [study]


def _series_item(series_instance_uid: str, references: list[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item.ReferencedSOPSequence = references
    return item

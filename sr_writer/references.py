"""References from a document to the instances that it is about, by study and series (PS3.3 C.17.2, table C.17-3)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from sr_writer.encoding import encoded_element


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance to which a document refers."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def hierarchical_references(study_instance_uid: str, instances: Iterable[Reference]) -> list[Dataset]:
    """Return the items of a sequence of references to instances of one study, each series once, in the given order."""
    by_series: dict[str, list[Reference]] = {}
    for instance in instances:
        by_series.setdefault(instance.series_instance_uid, []).append(instance)
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = [_series_item(uid, references) for uid, references in by_series.items()]
    return [study]


def referenced_sop_sequence(instances: Iterable[Reference]) -> RawDataElement:
    """Return Referenced SOP Sequence, already encoded, since documents may refer to many thousands of instances."""
    items = b"".join(map(_encoded_item, instances))
    return encoded_element(Tag("ReferencedSOPSequence"), "SQ", items)


def _encoded_item(instance: Reference) -> bytes:
    reference = b"".join(
        struct.pack("<HH2sH", 0x0008, element, b"UI", len(uid) + len(uid) % 2)
        + uid.encode("latin-1", "replace")
        + b"\0" * (len(uid) % 2)
        for element, uid in ((0x1150, instance.sop_class_uid), (0x1155, instance.sop_instance_uid))
    )
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(reference)) + reference


def _series_item(series_instance_uid: str, references: Iterable[Reference]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item[Tag("ReferencedSOPSequence")] = referenced_sop_sequence(references)
    return item

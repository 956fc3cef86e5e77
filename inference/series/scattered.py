"""Series of one slice each that were one series: an anonymiser gave every slice a Series Instance UID of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom import Dataset

from inference.series.limits import MIN_SLICES
from inference.series.numbers import numbers_at
from inference.series.objects import MOSAIC, MULTI_FRAME_CLASSES, VFRAME, image_type_of, sop_class_uid_of
from inference.series.rejected import Rejected
from inference.series.uids import shown_uid

MANY = 10  # series of one slice with numbers of their own; fewer may be meant

SliceKind = tuple[str, str, tuple[float, ...], tuple[float, ...]]
Scattered = tuple[SliceKind, tuple[float, ...]]  # what slices of one series share, and their Series Number


def kind_of_slice(ds: Dataset) -> Scattered | None:
    """What a single slice shares with the others of its series; None for an image that is a volume by itself."""
    if sop_class_uid_of(ds) in MULTI_FRAME_CLASSES or {MOSAIC, VFRAME} & set(image_type_of(ds)):
        return None
    try:
        size, number = (*numbers_at(ds, "Rows"), *numbers_at(ds, "Columns")), numbers_at(ds, "SeriesNumber")
        kind = str(ds.StudyInstanceUID), str(ds.get("Modality") or ""), size, numbers_at(ds, "ImageOrientationPatient")
    except ValueError:
        return None
    return kind, number


def find_scattered(kinds: Mapping[str, Scattered], sizes: Mapping[str, int]) -> tuple[frozenset[str], list[Rejected]]:
    """Series Instance UIDs of slices that belong together, and one reason for each group of them.

    Parameters
    ----------
    kinds
        Kind of the only slice of a series, by Series Instance UID.
    sizes
        Number of instances of each series.
    """
    groups: dict[SliceKind, list[str]] = {}
    for uid, (kind, _) in kinds.items():
        if sizes[uid] == 1:
            groups.setdefault(kind, []).append(uid)
    found: set[str] = set()
    reasons = []
    for (study, *_), uids in groups.items():
        numbers = {kinds[uid][1] for uid in uids}
        if len(uids) >= MIN_SLICES and (len(numbers) == 1 or len(uids) >= MANY):
            found.update(uids)
            reasons.append(_reason(study, uids, "one Series Number" if len(numbers) == 1 else "several Series Numbers"))
    return frozenset(found), reasons


def _reason(study: str, uids: Sequence[str], numbers: str) -> Rejected:
    name = f"study {shown_uid(study)}"
    text = (
        f"{name}: {len(uids)} series of one slice with {numbers}, expected one series of {len(uids)} slices; probably "
        "renumbered by an anonymiser; not processed, anonymise the study again so that all slices of a series keep one "
        "Series Instance UID"
    )
    return Rejected(name, "series-uid-per-slice", text)

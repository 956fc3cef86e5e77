"""A random sample of exported studies for a person to look at: a picture of each series, and what its headers lost.

The differences hold values of the source, so the sample stays where the originals are, readable by its owner only.
"""

from __future__ import annotations

import csv
import logging
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.uid import SegmentationStorage

from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import Copied, write_copy
from dicom_node.export.errors import NotExportableError, OutputFolderError
from dicom_node.export.selection import GateTerms, SeriesToCopy, objects_of, seen_series
from dicom_node.export.staging import Staged
from dicom_node.gate.decisions import standpoints
from dicom_node.overlay import draw_overlay
from dicom_node.store import ExportRow, ExportState, InstanceRow, Store
from inference.errors import SeriesError
from inference.series.assemble import assemble_volumes
from inference.series.files import PathSource
from inference.series.instances import without_pydicom_warnings
from inference.series.volume import SourceVolume
from part10.inflate import bounded_for_pydicom
from part10.limits import MAX_INFLATED_BYTES

log = logging.getLogger(__name__)

MAX_SHOWN: Final = 200  # characters of a value
MAX_ALIKE: Final = 3  # rows for one attribute, which may be in hundreds of items
_PIXEL_KEYWORDS: Final = frozenset({"PixelData", "FloatPixelData", "DoubleFloatPixelData"})
_SEGMENTS: Final = {"foreground": "38266002", "anonymized": "ANON-AREA"}  # type codes of the node's segments


@dataclass(frozen=True, slots=True)
class Sampled:
    """One study of a sample."""

    export: ExportRow
    folder: Path
    n_pictures: int
    is_same: bool  # the copies made for the sample are, byte for byte, those that were exported


def draw_sample(store: Store, output: Path, terms: GateTerms, cleaner: Cleaner, n_studies: int) -> tuple[Sampled, ...]:
    """Write a sample of the published exports of a project: ``<copy>/<series>.png`` and ``<series>.csv``.

    Raises
    ------
    OutputFolderError
        ``output`` exists already, or cannot be written.
    """
    published = store.exports.list(key_fingerprint=cleaner.pseudonyms.fingerprint(), state=ExportState.PUBLISHED)
    by_study = {
        row.study_instance_uid: row for row in published if not row.is_dataset
    }  # at several targets: the newest
    chosen = secrets.SystemRandom().sample(sorted(by_study), min(n_studies, len(by_study)))
    try:
        output.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        raise OutputFolderError("exists already", "name a new one for each sample") from error
    except OSError as error:
        raise OutputFolderError(f"cannot be made ({type(error).__name__})", "name another one") from error
    return tuple(_draw_study(store, by_study[uid], output, terms, cleaner) for uid in chosen)


def _draw_study(store: Store, row: ExportRow, output: Path, terms: GateTerms, cleaner: Cleaner) -> Sampled:
    folder = output / row.copy_study_instance_uid
    folder.mkdir(mode=0o700)
    staging = folder / ".copies"
    evidence = store.studies.evidence(row.study_instance_uid)
    (found,) = standpoints(store, [store.studies.get(row.study_instance_uid)], terms.digest, terms.rules)
    made: list[Copied] = []
    n_pictures = 0
    for series in objects_of(store, seen_series(evidence.series, terms), terms, is_released=found.is_released):
        copied = _copy_series(store, series, staging, cleaner)
        made += [one for one, _ in copied]
        n_pictures += _draw_series(store, copied, staging, folder)
    is_same = Staged(staging, tuple(made)).content_digest == row.content_digest
    shutil.rmtree(staging, ignore_errors=True)
    return Sampled(row, folder, n_pictures, is_same)


def _copy_series(store: Store, series: SeriesToCopy, staging: Path, cleaner: Cleaner) -> list[tuple[Copied, str]]:
    """Copy a series again; return each copy with the digest of its source."""
    images = _copy(store, series.images, staging, cleaner, is_face_gone=series.is_face_gone)
    if len(images) < len(series.images):
        return images
    return images + _copy(store, series.results, staging, cleaner, is_face_gone=False)


def _copy(
    store: Store, rows: Sequence[InstanceRow], staging: Path, cleaner: Cleaner, *, is_face_gone: bool
) -> list[tuple[Copied, str]]:
    """Copy the objects that the profile allows."""
    copied: list[tuple[Copied, str]] = []
    for row in rows:
        with without_pydicom_warnings(), store.objects.open(row.digest) as file, suppress(NotExportableError):
            copied.append((write_copy(file, staging, cleaner, is_face_gone=is_face_gone), row.digest))
    return copied


def _draw_series(store: Store, copied: Sequence[tuple[Copied, str]], staging: Path, folder: Path) -> int:
    """Write the differences of one object of each kind, and a picture of each volume; return how many pictures."""
    shown: set[str] = set()
    middle = len(copied) // 2
    for one, digest in (*copied[middle:], *copied[:middle]):  # the first image shown is from the middle of the stack
        if one.series_instance_uid in shown:
            continue
        shown.add(one.series_instance_uid)
        with without_pydicom_warnings():
            with store.objects.open(digest) as original, (staging / one.relative_path).open("rb") as copy:
                before = dcmread(bounded_for_pydicom(original, max_inflated_bytes=MAX_INFLATED_BYTES))
                after = dcmread(bounded_for_pydicom(copy, max_inflated_bytes=MAX_INFLATED_BYTES))
            _write_differences(folder / f"{one.series_instance_uid}.csv", before, after)
    images = [one for one, _ in copied if one.sop_class_uid != SegmentationStorage]
    if not images:
        return 0
    segs = [staging / one.relative_path for one, _ in copied if one.sop_class_uid == SegmentationStorage]
    try:
        volumes = assemble_volumes([PathSource(staging / one.relative_path) for one in images])
    except SeriesError as error:
        log.warning("no picture of a series in the sample", extra={"code": error.code})
        return 0
    for number, source in enumerate(volumes, start=1):
        foreground, anonymized = (_mask(segs, source, code) for code in _SEGMENTS.values())
        caption = [f"copy, volume {number}", f"{source.volume.spatial_shape} voxels"]
        png = draw_overlay(source.volume, foreground, anonymized, modality=source.modality, caption=caption)
        (folder / f"{images[0].series_instance_uid}-{number}.png").write_bytes(png)
    return len(volumes)


def _mask(segs: Sequence[Path], source: SourceVolume, type_code: str) -> NDArray[np.bool_]:
    """Return the segment with this type code on the grid of a volume; empty if no SEG has it."""
    for path in segs:
        seg = hd.seg.segread(path)
        for number in seg.segment_numbers:
            if seg.get_segment_description(number).segmented_property_type.value == type_code:
                found = seg.get_volume(segment_numbers=[number], combine_segments=True, skip_overlap_checks=True)
                matched: NDArray[np.bool_] = found.match_geometry(source.volume).array > 0
                return matched
    return np.zeros(source.volume.spatial_shape, dtype=np.bool_)


def _write_differences(path: Path, before: Dataset, after: Dataset) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("attribute", "in the source", "in the copy"))
        n_of: Counter[str] = Counter()
        for row in _differences(before, after, ""):
            n_of[row[0]] += 1
            if n_of[row[0]] <= MAX_ALIKE:
                table.writerow(row)
        table.writerows((f"{name}: {n - MAX_ALIKE} more", "", "") for name, n in n_of.items() if n > MAX_ALIKE)


def _differences(before: Dataset, after: Dataset, within: str) -> Iterator[tuple[str, str, str]]:
    for tag in sorted({*before.keys(), *after.keys()}):
        name = within + (keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})")
        if name in _PIXEL_KEYWORDS:
            continue
        left = before.get(tag)
        right = after.get(tag)
        if left is not None and right is not None and left.VR == right.VR == "SQ":
            for item, counterpart in zip(left.value, right.value, strict=False):
                yield from _differences(item, counterpart, f"{name} > ")
            if len(left.value) != len(right.value):
                yield name, f"{len(left.value)} items", f"{len(right.value)} items"
        elif _shown(left) != _shown(right):
            yield name, _shown(left), _shown(right)


def _shown(element: DataElement | None) -> str:
    if element is None:
        return "(absent)"
    if element.VR == "SQ":
        return f"{len(element.value)} items"
    if isinstance(element.value, bytes):
        return f"{len(element.value)} bytes"
    return str(element.value)[:MAX_SHOWN]

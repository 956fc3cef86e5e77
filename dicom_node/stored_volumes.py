"""Read the volumes that a job saw again from the store, and its masks from the SEGs that the node wrote for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.store import InstanceRow, JobRow, ObjectStore, Store
from inference.series.assemble import assemble_volumes
from inference.series.stack_choice import StackChoice, StackPolicy
from inference.series.volume import SourceVolume
from part10.inflate import bounded_for_pydicom

SEG = "seg"


@dataclass(frozen=True, slots=True)
class StoredSource:
    """An instance in the store, as a source of bytes; other processes can open it too."""

    name: str
    objects: ObjectStore
    digest: str
    dataset_bytes: int

    def open(self) -> BinaryIO:
        """Return a new stream of its Part 10 file."""
        return self.objects.open(self.digest, dataset_bytes=self.dataset_bytes)


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """What a job saw and found.

    Attributes
    ----------
    sources
        All instances of the generation, as the job had them; empty if they are gone.
    stacks
        Which stacks of the series the job looked at.
    segs
        Digest of the SEG of each stack that has one, by the stack's number. A stack without a SEG has empty masks.
    reports
        What was found, by the stack's number.
    """

    series_instance_uid: str
    sources: tuple[StoredSource, ...]
    stacks: StackPolicy
    segs: Mapping[int, str]
    reports: Mapping[int, Mapping[str, Any]]
    objects: ObjectStore


@dataclass(frozen=True, slots=True, eq=False)
class SeenVolume:
    """A volume and what was found in it; masks are on its grid."""

    source: SourceVolume
    foreground: NDArray[np.bool_]
    anonymized: NDArray[np.bool_]
    report: Mapping[str, Any]


def stored_series(store: Store, job: JobRow) -> StoredSeries:
    """Return what a job saw and found, without reading any pixels."""
    uid = job.series_instance_uid
    rows = store.series.instances(uid, generation=job.generation)
    steps = job.route.stacks if job.route is not None else ()
    return StoredSeries(
        uid,
        tuple(_source(store.objects, row) for row in rows),
        tuple(StackChoice(step) for step in steps) or (StackChoice.FIRST,),
        {row.stack_number: row.digest for row in store.jobs.results(job.id) if row.kind == SEG},
        {int(report.get("stack_number", 1)): report for report in store.studies.reports(uid)},
        store.objects,
    )


def read_volumes(series: StoredSeries) -> list[SeenVolume]:
    """Assemble the volumes as the job did, and read their masks.

    Raises
    ------
    inference.errors.InferenceError
        The instances are no longer a volume.
    dicom_node.store.errors.StoreError
        An object is missing or damaged.
    """
    return [_seen(series, volume) for volume in assemble_volumes(series.sources, stacks=series.stacks)]


def _source(objects: ObjectStore, row: InstanceRow) -> StoredSource:
    return StoredSource(row.sop_instance_uid, objects, row.digest, row.dataset_bytes)


def _seen(series: StoredSeries, source: SourceVolume) -> SeenVolume:
    report = series.reports.get(source.stack_number, {})
    shape = source.volume.spatial_shape
    masks = {role: np.zeros(shape, dtype=np.bool_) for role in ("foreground", "anonymized")}
    digest = series.segs.get(source.stack_number)
    if digest is not None:
        with series.objects.open(digest) as file:
            seg = dcmread(bounded_for_pydicom(file, max_inflated_bytes=0))  # our SEG is not deflated
        _fill(masks, seg, source, _roles(report))
    return SeenVolume(source, masks["foreground"], masks["anonymized"], report)


def _roles(report: Mapping[str, Any]) -> dict[int, str]:
    """Return the roles of the segments by number; both are there, in this order, where a report does not say."""
    said = {int(one["segment_number"]): one["role"] for one in report.get("segments", ()) if one.get("segment_number")}
    return said or {1: "foreground", 2: "anonymized"}


def _fill(masks: Mapping[str, NDArray[np.bool_]], seg: Dataset, source: SourceVolume, roles: Mapping[int, str]) -> None:
    """Set the voxels of a SEG's frames, each of which lies in one slice of the volume, off it by whole voxels."""
    to_index = np.linalg.inv(source.volume.affine)
    rows, columns = int(seg.Rows), int(seg.Columns)
    pixels = np.frombuffer(seg.PixelData, dtype=np.uint8)
    for number, groups in enumerate(seg.PerFrameFunctionalGroupsSequence):
        role = roles.get(int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber))
        if role is None:
            continue
        position = [float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient]
        plane, row, column = (int(value) for value in np.rint(to_index @ [*position, 1.0])[:3])
        _set(masks[role], (plane, row, column), _unpacked(pixels, number, rows, columns))


def _set(mask: NDArray[np.bool_], first: Sequence[int], frame: NDArray[np.bool_]) -> None:
    """Set a frame in a mask; what lies outside is left out."""
    plane, row, column = first
    if not 0 <= plane < mask.shape[0]:
        return
    top, left = max(0, row), max(0, column)
    bottom, right = min(mask.shape[1], row + frame.shape[0]), min(mask.shape[2], column + frame.shape[1])
    if top < bottom and left < right:
        mask[plane, top:bottom, left:right] |= frame[top - row : bottom - row, left - column : right - column]


def _unpacked(pixels: NDArray[np.uint8], number: int, rows: int, columns: int) -> NDArray[np.bool_]:
    """Return one frame of bits, which may start and end within a byte (PS3.5 8.1.1)."""
    first_bit, n_bits = number * rows * columns, rows * columns
    octets = pixels[first_bit // 8 : (first_bit + n_bits + 7) // 8]
    bits = np.unpackbits(octets, bitorder="little")[first_bit % 8 :][:n_bits]
    return bits.reshape(rows, columns).view(np.bool_)

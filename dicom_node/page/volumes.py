"""Read what a person should see of a series: its volumes, and the masks of the SEG that the node wrote for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.page.errors import NoPictureError
from dicom_node.store import InstanceRow, JobRow, JobState, ResultRow, SeriesState, Store
from inference.errors import InferenceError
from inference.series.assemble import assemble_volumes
from inference.series.stack_choice import StackChoice
from inference.series.volume import SourceVolume
from part10.inflate import bounded_for_pydicom

MAX_VOXELS: Final = 2**28  # of one series: 512 x 512 x 1024, 1 GiB in memory while pictures are made
_ROWS, _COLUMNS, _FRAMES = "00280010", "00280011", "00280008"


@dataclass(frozen=True, slots=True)
class StoredSource:
    """An instance in the store, as a source of bytes."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True, eq=False)
class SeenVolume:
    """A volume and what was found in it; masks are on its grid."""

    source: SourceVolume
    foreground: NDArray[np.bool_]
    anonymized: NDArray[np.bool_]
    report: Mapping[str, Any]


def seen_job(store: Store, series_instance_uid: str) -> JobRow:
    """Return the job that saw the current generation of a series; raise `NoPictureError` if there is none."""
    series = store.series.get(series_instance_uid)
    if series.state is SeriesState.DELETED:
        raise NoPictureError(series_instance_uid, "its received instances were deleted by retention")
    jobs = store.jobs.list(series_instance_uid=series_instance_uid, states=(JobState.SUCCEEDED,), limit=1)
    if not jobs or jobs[0].generation != series.generation:
        raise NoPictureError(series_instance_uid, "no model has seen what is there now")
    return jobs[0]


def read_volumes(store: Store, job: JobRow) -> list[SeenVolume]:
    """Read the volumes that a job saw, again from the received instances, and its masks from its SEG.

    Raises
    ------
    NoPictureError
        The series is too large, or can no longer be read.
    """
    uid = job.series_instance_uid
    rows = store.series.instances(uid, generation=job.generation)
    if not rows:
        raise NoPictureError(uid, "its received instances are gone")
    _check_size(store, uid)
    steps = job.route.stacks if job.route is not None else ()
    try:
        stacks = tuple(StackChoice(step) for step in steps) or (StackChoice.FIRST,)
        volumes = assemble_volumes([_source(store, row) for row in rows], stacks=stacks)
    except InferenceError as error:
        raise NoPictureError(uid, str(error)) from error
    reports = {int(report.get("stack_number", 1)): report for report in store.studies.reports(uid)}
    results = {row.stack_number: row for row in store.jobs.results(job.id) if row.kind == "seg"}
    return [_seen(store, volume, results.get(volume.stack_number), reports) for volume in volumes]


def _check_size(store: Store, uid: str) -> None:
    n_voxels = 0
    for attributes in store.series.instance_attributes(uid):
        n_voxels += _number(attributes, _ROWS) * _number(attributes, _COLUMNS) * max(1, _number(attributes, _FRAMES))
    if n_voxels > MAX_VOXELS:
        raise NoPictureError(uid, f"{n_voxels} voxels are more than this page shows ({MAX_VOXELS}); use a viewer")


def _number(attributes: Mapping[str, Any], tag: str) -> int:
    value = (attributes.get(tag, {}).get("Value") or [0])[0]
    return int(value) if str(value).strip().isdigit() else 0


def _source(store: Store, row: InstanceRow) -> StoredSource:
    opened = partial(store.objects.open, row.digest, dataset_bytes=row.dataset_bytes)
    return StoredSource(row.sop_instance_uid, opened)


def _seen(
    store: Store, source: SourceVolume, result: ResultRow | None, reports: Mapping[int, Mapping[str, Any]]
) -> SeenVolume:
    report = reports.get(source.stack_number, {})
    shape = source.volume.spatial_shape
    masks = {role: np.zeros(shape, dtype=np.bool_) for role in ("foreground", "anonymized")}
    if result is not None:
        with store.objects.open(result.digest) as file:
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

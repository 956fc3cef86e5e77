"""Read what a person should see of a series: its volumes, and the masks of the SEG that the node wrote for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dicom_node import stored_volumes
from dicom_node.page.errors import NoPictureError
from dicom_node.store import JobRow, JobState, SeriesState, Store
from dicom_node.stored_volumes import SeenVolume, stored_series
from inference.errors import InferenceError

MAX_VOXELS: Final = 2**28  # of one series: 512 x 512 x 1024, 1 GiB in memory while pictures are made
_ROWS, _COLUMNS, _FRAMES = "00280010", "00280011", "00280008"


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
    series = stored_series(store, job)
    uid = series.series_instance_uid
    if not series.sources:
        raise NoPictureError(uid, "its received instances are gone")
    _check_size(store, uid)
    try:
        return stored_volumes.read_volumes(series)
    except InferenceError as error:
        raise NoPictureError(uid, str(error)) from error


def _check_size(store: Store, uid: str) -> None:
    n_voxels = 0
    for attributes in store.series.instance_attributes(uid):
        n_voxels += _number(attributes, _ROWS) * _number(attributes, _COLUMNS) * max(1, _number(attributes, _FRAMES))
    if n_voxels > MAX_VOXELS:
        raise NoPictureError(uid, f"{n_voxels} voxels are more than this page shows ({MAX_VOXELS}); use a viewer")


def _number(attributes: Mapping[str, Any], tag: str) -> int:
    value = (attributes.get(tag, {}).get("Value") or [0])[0]
    return int(value) if str(value).strip().isdigit() else 0

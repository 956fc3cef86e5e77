"""One unit of work of a dataset: read an input once, and write the volumes that were segmented in it."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_node.datasets.errors import VolumeRefused
from dicom_node.datasets.results import SegmentedVolume, Task
from dicom_node.datasets.segmented import read_mask, told_of, volume_id, volume_key
from dicom_node.datasets.subjects import Owner, owner_of
from dicom_node.datasets.volumes import Refusal, finished_record, write_volume
from dicom_node.failures import ErrorKind, classify, error_code
from dicom_node.offline.items import Item
from inference.series.volume import SourceVolume

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A volume that is in the dataset (``record``, ``owner``), or why it is not (``refusal``)."""

    result: SegmentedVolume
    id: str
    record: dict[str, Any] | None = None
    owner: Owner | None = None
    refusal: Refusal | None = None
    is_new: bool = False


@dataclass(slots=True)
class _Input:
    """The input of a task, decoded when a volume of it must be written."""

    item: Item
    _volumes: dict[int, SourceVolume] = field(default_factory=dict)

    def volume(self, stack_number: int) -> SourceVolume:
        if not self._volumes:
            self._volumes = {volume.stack_number: volume for volume in self.item.read()}
        if stack_number not in self._volumes:
            raise VolumeRefused(
                "stack-missing",
                f"the images hold {len(self._volumes)} volumes, none with number {stack_number}; segment them again",
            )
        return self._volumes[stack_number]


def run_task(task: Task, volumes: Path) -> tuple[Outcome, ...]:
    """Write the volumes of a task, or say why not; only a full disk ends the run."""
    try:
        source = _Input(_matching(task))
        owner = owner_of(source.item)
    except Exception as error:  # noqa: BLE001 - one input that cannot be read must not end the run
        return tuple(Outcome(one, volume_id(one), refusal=_refusal(error)) for one in task.results)
    return tuple(_outcomes(task.results, source, owner, volumes))


def _outcomes(results: Sequence[SegmentedVolume], source: _Input, owner: Owner, volumes: Path) -> Iterator[Outcome]:
    for result in results:
        name = volume_id(result)
        try:
            key = volume_key(result)
            record = finished_record(volumes / name, key)
            if record is not None:
                yield Outcome(result, name, record, owner)
                continue
            volume = source.volume(result.stack_number)
            body, altered = (read_mask(result, role, volume) for role in ("foreground", "anonymized"))
            written = write_volume(volumes / name, volume, body, altered, key=key, told=told_of(result))
        except Exception as error:  # noqa: BLE001 - one volume that cannot be written must not end the run
            yield Outcome(result, name, refusal=_refusal(error))
        else:
            if isinstance(written, Refusal):
                yield Outcome(result, name, refusal=written)
            else:
                yield Outcome(result, name, written, owner, is_new=True)


def _matching(task: Task) -> Item:
    """Return the input whose contents were segmented."""
    wanted = task.results[0].input_sha256
    for item in task.candidates:
        if wanted and item.digest() == wanted:
            return item
    if task.candidates:
        raise VolumeRefused(
            "image-changed", "the images of this name have other contents than were segmented; segment them again"
        )
    raise VolumeRefused("image-missing", "its images were not found; name their folder with --images")


def _refusal(error: Exception) -> Refusal:
    """Return why, without texts of libraries, which may quote headers; raise if the disk is full."""
    if isinstance(error, VolumeRefused):
        return Refusal(error.reason_code, str(error))
    if isinstance(error, OSError):
        if error.errno in _FULL:
            raise error
        return Refusal("input-output", f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
    if classify(error) is ErrorKind.DEFECT:
        return Refusal("internal", f"a defect of dicom-node ({type(error).__name__}); please report it")
    return Refusal(error_code(error), str(error) or "not enough memory for this volume")

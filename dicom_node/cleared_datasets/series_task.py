"""Write the volumes of one series of a study into a staging folder; in this process or in another."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread

from dicom_node.datasets.errors import VolumeRefused
from dicom_node.datasets.subjects import Place
from dicom_node.datasets.volumes import FORMAT, Refusal, finished_record, write_volume
from dicom_node.export.admission import check_object
from dicom_node.export.copying import read_source
from dicom_node.export.errors import NotExportableError
from dicom_node.export.persons import Person, person_of
from dicom_node.export.profile import Profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.failures import ErrorKind, classify, error_code
from dicom_node.processing import volume_name
from dicom_node.store import ObjectDamagedError, ObjectMissingError, ObjectsUnavailableError
from dicom_node.stored_volumes import SeenVolume, StoredSeries, StoredSource, read_volumes
from inference.series.instances import without_pydicom_warnings
from part10.damage import PYDICOM_ERRORS
from part10.inflate import bounded_for_pydicom
from part10.limits import MAX_INFLATED_BYTES

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOST: Final = (ObjectMissingError, ObjectDamagedError)
_SESSION_CHARACTERS: Final = 8  # 40 bits, and a person has few studies
_WHO: Final = ["PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName", "SpecificCharacterSet"]


@dataclass(frozen=True, slots=True)
class SeriesTask:
    """A series of a study that may leave.

    Attributes
    ----------
    images
        The sources whose voxels leave: no reports or segmentations of other software.
    volumes, staging
        Folder of the finished volumes, and folder for new ones.
    """

    study_instance_uid: str
    series: StoredSeries
    images: tuple[StoredSource, ...]
    volumes: Path
    staging: Path
    profile: Profile
    pseudonyms: Pseudonyms = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class VolumeOutcome:
    """A volume that may be published (``record``; ``is_new`` if it is staged), or why it is refused."""

    id: str
    name: str
    record: dict[str, Any] | None = None
    refusal: Refusal | None = None
    is_new: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class SeriesOutcome:
    """What became of the volumes of a series.

    Attributes
    ----------
    place
        Names of subject and session; None if the headers could not be read.
    lost
        An object is missing or damaged, or its store does not answer, so nothing of the study leaves.
    """

    volumes: tuple[VolumeOutcome, ...]
    place: Place | None = None
    persons: frozenset[Person] = field(default=frozenset(), repr=False)
    lost: str | None = None


def run_series(task: SeriesTask) -> SeriesOutcome:
    """Write the volumes of a series that are not there yet.

    Two errors are raised instead of returned: a full disk, and an object store that cannot be reached. Without the
    images it is unknown which volumes of an earlier run are still valid. No text of the outcome holds a value of the
    source.
    """
    with without_pydicom_warnings():  # a warning may show the value that it is about
        try:
            places, persons = _who(task)
            volumes = tuple(_volumes(task))
        except _LOST as error:
            return SeriesOutcome((), lost=str(error))
        except ObjectsUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - one series that cannot be used must not end the run
            return SeriesOutcome(tuple(_all_refused(task, _refusal(error))))
    if len(places) != 1:
        refusal = Refusal("two-patients", "its images have more than one Patient ID or issuer of it")
        return SeriesOutcome(tuple(_all_refused(task, refusal)), persons=persons)
    return SeriesOutcome(volumes, next(iter(places)), persons)


def _who(task: SeriesTask) -> tuple[set[Place], frozenset[Person]]:
    """Return the places that the images name, one unless they are of two patients, and their persons."""
    places, persons = set(), set()
    names = task.pseudonyms
    session = f"ses-{names.word('session', task.study_instance_uid)[:_SESSION_CHARACTERS]}"
    for image in task.images:
        ds = _header(image)
        patient, issuer = (str(ds.get(keyword) or "").strip() for keyword in _WHO[:2])
        places.add(Place(f"sub-{names.patient(patient, issuer)}", session))  # as the copies of `export` name them
        persons.add(person_of(ds))
    return places, frozenset(persons)


def _header(image: StoredSource) -> Dataset:
    with image.open() as file:
        bounded = bounded_for_pydicom(file, max_inflated_bytes=MAX_INFLATED_BYTES)
        try:
            return dcmread(bounded, stop_before_pixels=True, specific_tags=_WHO)
        except PYDICOM_ERRORS as error:
            raise NotExportableError("unreadable", f"a header cannot be read ({type(error).__name__})") from error


def _volumes(task: SeriesTask) -> Iterator[VolumeOutcome]:
    """Yield the outcome of each volume that the job saw; the series is decoded once, if at all."""
    decoded: dict[int, SeenVolume] = {}
    for number in sorted(task.series.reports):
        volume_id, name = _id_of(task, number), _name_of(task, number)
        key = _key_of(task, number, volume_id)
        record = finished_record(task.volumes / volume_id, key)
        if record is not None:
            yield VolumeOutcome(volume_id, name, record)
            continue
        if not decoded:
            _admit(task.images, task.profile)
            decoded = {one.source.stack_number: one for one in read_volumes(task.series)}
        seen = decoded.get(number)
        if seen is None:
            refusal = Refusal("stack-missing", f"the images hold {len(decoded)} volumes, none with number {number}")
            yield VolumeOutcome(volume_id, name, refusal=refusal)
            continue
        task.staging.mkdir(parents=True, exist_ok=True)
        told = _told(task, number, seen)
        written = write_volume(
            task.staging / volume_id, seen.source, seen.foreground, seen.anonymized, key=key, told=told
        )
        if isinstance(written, Refusal):
            yield VolumeOutcome(volume_id, name, refusal=written)
        else:
            yield VolumeOutcome(volume_id, name, written, is_new=True)


def _admit(images: Sequence[StoredSource], profile: Profile) -> None:
    """Raise `NotExportableError` if `export` would not copy one of the images: a volume has all of them or none."""
    for image in images:
        with image.open() as file:
            source, _ = read_source(file)
        check_object(source, profile)


def _id_of(task: SeriesTask, number: int) -> str:
    """Return the ID of a volume, made from the contents of its images under the key of the project."""
    digests = "".join(sorted(source.digest for source in task.images))
    return f"v{task.pseudonyms.word('volume', f'{digests}/{number}').lower()}"


def _key_of(task: SeriesTask, number: int, volume_id: str) -> str:
    """Return a digest of all that decides the files of a volume."""
    report = task.series.reports[number]
    told = (FORMAT, volume_id, task.profile.digest, task.series.segs.get(number), report.get("verdict"))
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _name_of(task: SeriesTask, number: int) -> str:
    """Return the name of a volume in the manifest: the series as copies of `export` name it."""
    return volume_name(task.pseudonyms.mapped_uid(task.series.series_instance_uid), number)


def _told(task: SeriesTask, number: int, seen: SeenVolume) -> dict[str, Any]:
    return {
        "result": _name_of(task, number),
        "study": task.pseudonyms.mapped_uid(task.study_instance_uid),
        "stack_number": number,
        "pipeline_digest": seen.report.get("pipeline_digest"),
        "verdict": seen.report.get("verdict"),
    }


def _all_refused(task: SeriesTask, refusal: Refusal) -> Iterator[VolumeOutcome]:
    for number in sorted(task.series.reports):
        yield VolumeOutcome(_id_of(task, number), _name_of(task, number), refusal=refusal)


def _refusal(error: Exception) -> Refusal:
    """Return why, without texts that name a series; raise if the disk is full."""
    if isinstance(error, VolumeRefused):
        return Refusal(error.reason_code, str(error))
    if isinstance(error, NotExportableError):
        return Refusal(error.reason, str(error))
    if isinstance(error, OSError) and error.errno in _FULL:
        raise error
    if classify(error) is ErrorKind.DEFECT:
        return Refusal("internal", f"a defect of dicom-node ({type(error).__name__}); please report it")
    return Refusal(error_code(error), "its images are no longer a volume; `series explain` says why")

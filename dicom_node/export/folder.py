"""De-identify folders, archives and files into a folder of studies, with a manifest of what was done."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread

from dicom_node.export.cleaner import Report
from dicom_node.export.copying import Copied
from dicom_node.export.manifest import MANIFEST_FILE, Manifest, Refusal
from dicom_node.export.output import STAGING_FOLDER, alone_in, check_output, publish, sync_tree
from dicom_node.export.persons import Person, differing_persons, person_of, told_of_several
from dicom_node.export.profile import Profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.workers import ToCopy, copy_one, copying_processes
from inference.series.instances import InstanceSource, without_pydicom_warnings
from part10.damage import PYDICOM_ERRORS
from part10.inflate import bounded_for_pydicom
from part10.limits import MAX_INFLATED_BYTES

_IDENTITY_KEYWORDS: Final = (
    *("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName", "SpecificCharacterSet"),
    *("StudyInstanceUID", "SOPInstanceUID"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Patient and UIDs of a file, before it is decided whether to copy it."""

    patient: tuple[str, str]  # Patient ID and its issuer
    person: Person
    study_instance_uid: str
    sop_instance_uid: str


NOT_MEANT_CODES: Final = frozenset({"dicomdir", "not-dicom"})
"""Files of these kinds come with the images from a PACS or on a CD; leaving them out is not a failure."""
_DICOM_ENDINGS: Final = (".dcm", ".dicom", ".ima")


@dataclass(slots=True)
class Run:
    """Results of a run so far."""

    copied: list[Copied] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    n_not_used: int = 0
    n_duplicates: int = 0
    report: Report = field(default_factory=Report)


def deidentify(
    sources: Sequence[InstanceSource],
    output: Path,
    *,
    profile: Profile,
    pseudonyms: Pseudonyms,
    workers: int = 1,
    on_file: Callable[[], None] = lambda: None,
) -> Manifest:
    """Copy every object that may be copied, by study; a study appears in ``output`` completely or not at all.

    The same sources, profile and key produce the same files, whatever an earlier run of them left in ``output``. A part
    of a study does not replace what an earlier run made from the rest of it.

    Raises
    ------
    OutputFolderError
        ``output`` belongs to another key or project, or cannot be written.
    """
    check_output(output, pseudonyms)
    with alone_in(output):
        return _deidentify(sources, output, profile, pseudonyms, workers, on_file)


def _deidentify(
    sources: Sequence[InstanceSource],
    output: Path,
    profile: Profile,
    pseudonyms: Pseudonyms,
    workers: int,
    on_file: Callable[[], None],
) -> Manifest:
    staging = output / STAGING_FOLDER
    shutil.rmtree(staging, ignore_errors=True)
    run = Run()
    with copying_processes(workers, profile, pseudonyms) as apply:
        identities = list(apply(_read_identity, sources))
        wanted = _without_contradictions(sources, identities, run)
        copied: list[tuple[int, Copied]] = []
        for number, result in zip(wanted, apply(copy_one, [ToCopy(sources[i], staging) for i in wanted]), strict=True):
            on_file()
            if isinstance(result, Copied):
                copied.append((number, result))
            elif result.code in NOT_MEANT_CODES and not sources[number].name.lower().endswith(_DICOM_ENDINGS):
                run.n_not_used += 1
            else:
                run.refused.append(Refusal(number + 1, result.code, result.reason))
    given = {pseudonyms.mapped_uid(one.sop_instance_uid) for one in identities if one is not None}
    _take_whole_studies(copied, given, output, run)
    for folder in sorted({one.relative_path.parents[1] for one in run.copied}):
        sync_tree(staging / folder)
        publish(staging / folder, output / folder)
    shutil.rmtree(staging, ignore_errors=True)
    manifest = Manifest.of(
        run.copied, run.refused, run.report, run.n_duplicates, run.n_not_used, len(sources), profile, pseudonyms
    )
    manifest.write(output / MANIFEST_FILE)
    return manifest


def _read_identity(source: InstanceSource) -> Identity | None:
    """Return the identifiers of one file; None if it cannot be read, which copying will report."""
    try:
        with without_pydicom_warnings(), source.open() as file:  # a warning may show the value that it is about
            bounded = bounded_for_pydicom(file, max_inflated_bytes=MAX_INFLATED_BYTES)
            ds = dcmread(bounded, stop_before_pixels=True, specific_tags=list(_IDENTITY_KEYWORDS))
            return Identity(
                (_text(ds, "PatientID"), _text(ds, "IssuerOfPatientID")),
                person_of(ds),
                _text(ds, "StudyInstanceUID"),
                _text(ds, "SOPInstanceUID"),
            )
    except PYDICOM_ERRORS:
        return None


def _text(ds: Dataset, keyword: str) -> str:
    return str(ds.get(keyword) or "").strip()


def _without_contradictions(
    sources: Sequence[InstanceSource], identities: Sequence[Identity | None], run: Run
) -> list[int]:
    """Return the numbers of the files to copy: none of a study with two patients, one for each SOP Instance UID."""
    patients: dict[str, set[tuple[str, str]]] = defaultdict(set)
    persons: dict[str, set[Person]] = defaultdict(set)
    for identity in identities:
        if identity is not None and identity.study_instance_uid:
            patients[identity.study_instance_uid].add(identity.patient)
            persons[identity.study_instance_uid].add(identity.person)
    mixed = {uid: found for uid in patients if (found := _differing(patients[uid], persons[uid]))}
    wanted: list[int] = []
    first: dict[str, int] = {}
    for number, identity in enumerate(identities):
        if identity is not None and identity.study_instance_uid in mixed:
            run.refused.append(
                Refusal(
                    number + 1,
                    "two-patients",
                    told_of_several("files of its study", mixed[identity.study_instance_uid]),
                )
            )
        elif identity is not None and identity.sop_instance_uid and identity.sop_instance_uid in first:
            if _same(sources[first[identity.sop_instance_uid]], sources[number]):
                run.n_duplicates += 1
            else:
                run.refused.append(
                    Refusal(
                        number + 1,
                        "conflict",
                        "another file has the same SOP Instance UID and other content; keep one of them",
                    )
                )
        else:
            if identity is not None:
                first[identity.sop_instance_uid] = number
            wanted.append(number)
    return wanted


def _differing(patients: set[tuple[str, str]], persons: set[Person]) -> tuple[str, ...]:
    """Return the attributes in which files of one study name different patients."""
    ids, issuers = (len({one[part] for one in patients}) > 1 for part in (0, 1))
    of_ids = ("Patient ID",) * ids + ("Issuer of Patient ID",) * issuers
    return (*of_ids, *differing_persons(persons))


def _same(one: InstanceSource, other: InstanceSource) -> bool:
    with one.open() as first, other.open() as second:
        while True:
            parts = first.read(2**20), second.read(2**20)
            if parts[0] != parts[1]:
                return False
            if not parts[0]:
                return True


def _take_whole_studies(copied: Sequence[tuple[int, Copied]], given: set[str], output: Path, run: Run) -> None:
    """Take the copies of a study, unless an earlier run copied objects of it that were not given now.

    A study replaces the one of the earlier run, so copies that are made from other files would be lost.

    Parameters
    ----------
    given
        Replaced SOP Instance UIDs of all files of this run, those that are refused too.
    """
    folders = {one.relative_path.parents[1] for _, one in copied}
    n_lost = {folder: len({path.stem for path in (output / folder).rglob("*.dcm")} - given) for folder in folders}
    for number, one in copied:
        lost = n_lost[one.relative_path.parents[1]]
        if lost:
            told = (
                f"an earlier run copied {lost} other objects of its study, which would be replaced; name all files of "
                "the study in one command, or another output folder"
            )
            run.refused.append(Refusal(number + 1, "part-of-study", told))
        else:
            run.copied.append(one)
            run.report.add(one.report)

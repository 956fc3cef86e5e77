"""Who a volume is of, and when: only to keep a person's volumes together, never written out.

A DICOM series belongs to its patient (Patient ID and its issuer; a placeholder such as ANON joins only one study) and
to its study. A NIfTI file belongs to the ``sub-`` and ``ses-`` of its path, as in BIDS; without them it stands alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dicom_node.offline.items import Item
from dicom_node.patient_ids import names_nobody
from inference.series.instances import read_header, reading

_SUBJECT = re.compile(r"(?:^|_)(sub-[A-Za-z0-9]+)")
_SESSION = re.compile(r"(?:^|_)(ses-[A-Za-z0-9]+)")
SUBJECT_DIGITS = 12
SESSION_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Owner:
    """Keys that are equal for volumes of one person, and of one session of that person."""

    person: tuple[str, ...]
    session: str


@dataclass(frozen=True, slots=True)
class Place:
    """Names of a volume's subject and session in the dataset, made from contents alone."""

    subject: str
    session: str


def owner_of(item: Item) -> Owner:
    """Return who the item is of."""
    if item.nifti is not None:
        return _owner_of_path(item.nifti)
    source = item.sources[0]
    header = read_header(source)
    with reading(source.name):
        study = str(header.get("StudyInstanceUID") or "").strip()
        patient = str(header.get("PatientID") or "").strip()
        issuer = str(header.get("IssuerOfPatientID") or "").strip()
    return Owner(("study", study) if names_nobody(patient) else ("patient", issuer, patient), study)


def give_places(owners: Mapping[str, Owner]) -> dict[str, Place]:
    """Return the place of every volume, by its ID.

    The smallest volume ID of a person names the subject, and that of a session the session, so the names depend on
    contents alone.
    """
    people: dict[tuple[str, ...], list[str]] = defaultdict(list)
    sessions: dict[Owner, list[str]] = defaultdict(list)
    for volume_id, owner in owners.items():
        people[owner.person].append(volume_id)
        sessions[owner].append(volume_id)
    return {
        volume_id: Place(
            f"sub-{min(people[owner.person])[1 : 1 + SUBJECT_DIGITS]}",
            f"ses-{min(sessions[owner])[1 : 1 + SESSION_DIGITS]}",
        )
        for volume_id, owner in owners.items()
    }


def _owner_of_path(path: Path) -> Owner:
    path = path.absolute()
    session = _last(_SESSION, path)
    for depth, part in enumerate(path.parts):
        if found := _SUBJECT.search(part):
            return Owner(("bids", *path.parts[:depth], found[1]), session)
    return Owner(("file", str(path)), session)


def _last(pattern: re.Pattern[str], path: Path) -> str:
    return next((found[1] for part in reversed(path.parts) if (found := pattern.search(part))), "")

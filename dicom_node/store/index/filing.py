"""Make rows of the index from the headers of instances."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dicom_node.store.index.attributes import integer
from dicom_node.store.index.rows import Arrival
from dicom_node.store.schema import series, studies
from dicom_node.store.states import Origin, SeriesState, StudyState

if TYPE_CHECKING:
    from dicom_node.store.index.headers import Header


@dataclass(frozen=True, slots=True)
class Filed:
    """An object whose index row is not written yet."""

    digest: str
    dataset_bytes: int
    header: Header
    arrival: Arrival


def instance_values(filed: Filed, origin: Origin, generation: int) -> dict[str, object]:
    """Return the values of a row of ``instances``."""
    header, arrival = filed.header, filed.arrival
    return {
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "series_instance_uid": header.series_instance_uid,
        "study_instance_uid": header.study_instance_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "digest": filed.digest,
        "dataset_bytes": filed.dataset_bytes,
        "origin": origin.value,
        "generation": generation,
        "instance_number": header.instance_number,
        "attributes": header.dicom_json("instance"),
        "patient_id": header.texts.get("PatientID", ""),
        "calling_ae_title": arrival.calling_ae_title,
        "association_id": arrival.association_id,
        "received_at": arrival.received_at,
        "superseded_at": None,
    }


def add_study(connection: sa.Connection, header: Header, now: datetime) -> None:
    """Add the study of an instance unless it exists; its attributes are those of its first instance."""
    connection.execute(
        sa.insert(studies).values(
            study_instance_uid=header.study_instance_uid,
            state=StudyState.OPEN.value,
            **study_values(header),
            first_arrival_at=now,
            last_arrival_at=now,
        )
    )


def study_values(header: Header) -> dict[str, object]:
    """Return what a header says of its study and patient."""
    alphabetic, separator, other_groups = header.texts.get("PatientName", "").partition("=")
    return {
        "patient_id": header.texts.get("PatientID", ""),
        "patient_name_key": name_key(alphabetic),
        "patient_name_groups_key": (separator + other_groups).casefold(),
        "patient_birth_date": header.texts.get("PatientBirthDate", ""),
        "patient_sex": header.texts.get("PatientSex", ""),
        "study_date": header.texts.get("StudyDate", ""),
        "study_time": header.texts.get("StudyTime", ""),
        "accession_number": header.texts.get("AccessionNumber", ""),
        "study_id": header.texts.get("StudyID", ""),
        "study_description": header.texts.get("StudyDescription", ""),
        "referring_physician_name_key": name_key(header.texts.get("ReferringPhysicianName", "").partition("=")[0]),
        "attributes": header.dicom_json("study"),
    }


def add_series(connection: sa.Connection, header: Header, origin: Origin, state: SeriesState, now: datetime) -> None:
    """Add the series of an instance, still empty."""
    connection.execute(
        sa.insert(series).values(
            series_instance_uid=header.series_instance_uid,
            study_instance_uid=header.study_instance_uid,
            **series_values(header),
            origin=origin.value,
            state=state.value,
            generation=1,
            n_instances=0,
            n_dataset_bytes=0,
            first_arrival_at=now,
            last_arrival_at=now,
        )
    )


def series_values(header: Header) -> dict[str, object]:
    """Return what a header says of its series."""
    return {
        "modality": header.texts.get("Modality", ""),
        "series_number": integer(header.texts.get("SeriesNumber", "")),
        "series_description": header.texts.get("SeriesDescription", ""),
        "body_part_examined": header.texts.get("BodyPartExamined", ""),
        "performed_procedure_step_start_date": header.texts.get("PerformedProcedureStepStartDate", ""),
        "performed_procedure_step_start_time": header.texts.get("PerformedProcedureStepStartTime", ""),
        "attributes": header.dicom_json("series"),
    }


def name_key(group: str) -> str:
    """Return the search key of a person name's group: case-folded, without empty components at its end."""
    return group.casefold().rstrip("^ ")

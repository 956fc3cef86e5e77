"""An index of many small instances, filled by the code that files arrivals, without their bytes.

`dataset` makes any of the instances, so that another archive can be sent what the index is told; a test receives some
and compares the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from dicom_node.store import Arrival, Store
from dicom_node.store.database import Database
from dicom_node.store.index.filing import Filed
from dicom_node.store.index.headers import read_header
from dicom_node.store.sqlite import sqlite_url
from dicom_node.store.work.arrivals import index_arrivals

SERIES_PER_STUDY: Final = 2
INSTANCES_PER_SERIES: Final = 20
FAMILY_NAMES: Final = 1000
N_PET: Final = 25
GIVEN_NAMES: Final = ("ANNA", "BERND", "CARLA", "DAVID", "EVA", "FRANK", "GRETA", "HANS", "INES", "JOHN", "KARIN")
_SYLLABLES: Final = ("BA", "DE", "KI", "LO", "MU", "NA", "RE", "SI", "TO", "VU")
_NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
_FILED_AT_ONCE: Final = 20_000
_CACHE_KIB: Final = 2**20
_SOP_CLASSES: Final = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
_SERIES_DESCRIPTIONS: Final = ("Schädel nativ 1.0 Hr40", "t1_mprage_sag_p2_iso", "Thorax 5.0 Br36", "t2_tse_tra_512")


@dataclass(frozen=True)
class Encoded:
    """An encoded dataset, as the inbox has one in its spool."""

    head: bytes

    @property
    def dataset_bytes(self) -> int:
        """Return its length."""
        return len(self.head)

    def read_head(self, n_bytes: int) -> bytes:
        """Return its first bytes."""
        return self.head[:n_bytes]


def uid(*numbers: int) -> str:
    """Return the UID of a study, a series or an instance; they have no order."""
    return str(generate_uid(entropy_srcs=["many instances", *map(str, numbers)]))


def family_name(number: int) -> str:
    """Return one of `FAMILY_NAMES` names of three syllables, of which ten begin with the same two."""
    number = (number * 7) % FAMILY_NAMES
    return "".join(_SYLLABLES[digit] for digit in (number % 10, number // 10 % 10, number // 100))


def study_day(number: int) -> str:
    """Return the date of a study; ten years have studies each day."""
    return f"{_NOON - timedelta(days=(number * 7919) % 3650):%Y%m%d}"


def modality(study: int, series: int) -> str:
    """Return the modality of a series: a tenth of the studies have CT and MR, and N_PET of the first ones have PT."""
    if series == 0 and study % 100 == 50 and study < 100 * N_PET:
        return "PT"
    return "CT" if study % 2 == 0 or (study % 10 == 1 and series == 0) else "MR"


def accession_number(study: int) -> str:
    """Return the accession number of a study; no two have the same."""
    return f"A{study:08d}"


def dataset(study: int, series: int = 0, instance: int = 0) -> Dataset:
    """Return an instance without pixels, with all that the index reads from one."""
    is_mr = modality(study, series) == "MR"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"] if is_mr else ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = _SOP_CLASSES[modality(study, series)]
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID = (
        uid(study, series, instance), uid(study, series), uid(study),
    )  # fmt: skip
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = study_day(study)
    ds.StudyTime, ds.SeriesTime, ds.ContentTime = "081530.250", f"0820{series:02d}", f"0821{instance % 60:02d}"
    ds.AccessionNumber, ds.StudyID = accession_number(study), str(study % 1000)
    ds.Modality, ds.Manufacturer = modality(study, series), "Philips" if is_mr else "SIEMENS"
    ds.ReferringPhysicianName, ds.StationName = f"{family_name(study // 7)}^DR", "STATION1"
    ds.StudyDescription = f"Schädel^{study % 40}"
    ds.SeriesDescription = _SERIES_DESCRIPTIONS[(study + series) % len(_SERIES_DESCRIPTIONS)]
    ds.ManufacturerModelName, ds.ProtocolName = "Scanner 7", "Kopf"
    ds.PatientName = f"{family_name(study)}^{GIVEN_NAMES[study // FAMILY_NAMES % len(GIVEN_NAMES)]}"
    ds.PatientID, ds.PatientBirthDate, ds.PatientSex = f"P{study:07d}", f"19{study % 90 + 10}0315", "F"
    ds.BodyPartExamined, ds.PatientPosition = "HEAD", "HFS"
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = series + 1, 1, instance + 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-120.5, -118.25, 1.5 * instance], [1, 0, 0, 0, 1, 0]
    ds.FrameOfReferenceUID = uid(study, -1)
    ds.Rows = ds.Columns = 512
    ds.BitsAllocated = 16
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = ds.StudyDate, ds.StudyTime
    return ds


def encoded_dataset(ds: Dataset) -> bytes:
    """Return a dataset in explicit VR little endian, without preamble and file meta."""
    buffer = BytesIO()
    ds.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=False)
    content = buffer.getvalue()
    at = 144 + int.from_bytes(content[140:144], "little") if content[128:132] == b"DICM" else 0
    return content[at:]


def fill(folder: Path, n_series: int) -> None:
    """Fill a new store's index with `INSTANCES_PER_SERIES` instances in each of many series, and a verdict for each."""
    with Store.open(folder):
        pass  # the tables
    database = Database(sqlite_url(folder / "index.sqlite"))
    batch: list[Filed] = []
    for number in range(n_series):
        batch += filed_series(*divmod(number, SERIES_PER_STUDY))
        if len(batch) >= _FILED_AT_ONCE or number == n_series - 1:
            with database.write() as connection:
                connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
                index_arrivals(connection, batch)
            batch.clear()
    with database.write() as connection:
        for statement in _PROCESSED.split(";"):
            connection.exec_driver_sql(statement)
    database.dispose()


def filed_series(study: int, series: int) -> Iterator[Filed]:
    """Yield the instances of a series as the inbox files them; what differs between them is put into its first one."""
    ds = dataset(study, series)
    encoded = Encoded(encoded_dataset(ds))
    at = _NOON + timedelta(seconds=study)
    arrival = Arrival(ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian, "SCANNER", f"{study:032x}", at)
    header = read_header(encoded, arrival)
    for instance in range(INSTANCES_PER_SERIES):
        own = {
            "SOPInstanceUID": uid(study, series, instance),
            "InstanceNumber": str(instance + 1),
            "ContentTime": f"0821{instance % 60:02d}",
            "ImagePositionPatient": f"-120.5\\-118.25\\{1.5 * instance}",
        }
        digest = hashlib.sha256(own["SOPInstanceUID"].encode()).hexdigest()
        known = replace(header, sop_instance_uid=own["SOPInstanceUID"], texts={**header.texts, **own})
        yield Filed(digest, encoded.dataset_bytes, known, replace(arrival, sop_instance_uid=own["SOPInstanceUID"]))


# What scheduler and worker leave of each series, as far as searches look at it.
_PROCESSED: Final = """
INSERT INTO jobs (series_instance_uid, study_instance_uid, generation, pipeline_digest, state, attempt_number,
    queued_at, started_at, ended_at)
SELECT series_instance_uid, study_instance_uid, generation, 'p', 'succeeded', 1,
    last_arrival_at, last_arrival_at, last_arrival_at FROM series;
INSERT INTO verdicts (job_id, stack_number, verdict, probability, reasons, report, found_at)
SELECT id, 1, CASE id % 3 WHEN 0 THEN 'defaced' ELSE 'face_present' END, 0.99, '[]', '{}', ended_at FROM jobs;
UPDATE series SET state = 'complete', completed_at = last_arrival_at
"""

"""A small archive to query: four patients with names in four alphabets, five studies, seven series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.dimse import DimseServer
from dicom_node.store import Store
from tests.store.sending import instance, keep

AE_TITLE = "NODE"
# AE title of a peer → may it query, may it retrieve; BOTH is also a destination of C-MOVE in some tests.
PEERS = {"BOTH": (True, True), "FINDER": (True, False), "GETTER": (False, True), "NEITHER": (False, False)}

MULLER = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen", "PatientID": "M-1"}
YAMADA = {
    "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
    "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "PatientID": "P/3",
}
IVANOV = {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Иванов^Пётр", "PatientID": "I-2", "PatientSex": "M"}


@dataclass(frozen=True)
class Archive:
    """A node with a filled store."""

    server: DimseServer
    store: Store

    @property
    def port(self) -> int:
        return self.server.port


def fill(store: Store) -> None:
    """Keep the instances; every kind of value that the index holds is there."""
    test = {"PatientBirthDate": "19700102", "PatientSex": "F", "StudyDescription": "Head", "StudyID": "S1"}
    for number in (3, 1, 2):
        keep(
            store,
            instance(number, study="1.1", series="1.1.1", StudyDate="20240105", StudyTime="103059.5", **test,
                     ImagePositionPatient=["-1.5", "2", "1e-3"], SeriesDescription="Axial 5mm"),
        )  # fmt: skip
    keep(store, instance(1, study="1.1", series="1.1.2", Modality="MR", StudyDate="20240105", SeriesNumber=8))
    later = {"StudyDate": "20250220", "StudyTime": "1200", "AccessionNumber": "A_2", "ReferringPhysicianName": "Doe^J"}
    keep(store, instance(1, study="1.2", series="1.2.1", **later))
    keep(store, instance(1, study="1.3", series="1.3.1", Modality="MR", StudyDate="", **YAMADA))
    keep(store, instance(1, study="1.4", series="1.4.1", StudyDate="20250101", AccessionNumber="", **MULLER))
    keep(store, instance(2, study="1.4", series="1.4.2", StudyDate="20250101", BodyPartExamined="HEAD", **MULLER))
    keep(store, instance(1, study="1.5", series="1.5.1", StudyDate="20231231", StudyTime="235959", **IVANOV))


def values(matches: Sequence[object], keyword: str) -> list[str]:
    """An attribute of all matches."""
    return [str(getattr(match, keyword)) for match in matches]

"""dcmtk's findscu at every level of both roots."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.dimse.query.archive import Archive, values
from tests.peer_servers import run_tool

pytestmark = pytest.mark.peers


def findscu(port: int, *options: str, calling: str = "BOTH") -> subprocess.CompletedProcess[str]:
    return run_tool("findscu", "-v", "-aet", calling, "-aec", "NODE", *options, "127.0.0.1", port)


def find(archive: Archive, folder: Path, *keys: str, root: str = "-S") -> list[Dataset]:
    """Matches as findscu writes them to files."""
    options = [option for key in keys for option in ("-k", key)]
    answer = findscu(archive.port, root, "-X", "-od", str(folder), *options)
    assert answer.returncode == 0, answer.stdout
    assert "Success" in answer.stdout
    return [dcmread(path) for path in sorted(folder.glob("rsp*.dcm"))]


def test_studies_by_patient_id_with_their_counts(archive: Archive, tmp_path: Path) -> None:
    found = find(
        archive, tmp_path, "QueryRetrieveLevel=STUDY", "PatientID=P1", "StudyDate", "PatientName", "ModalitiesInStudy",
        "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "InstanceAvailability",
    )  # fmt: skip
    assert values(found, "StudyInstanceUID") == ["1.2", "1.1"]
    assert values(found, "StudyDate") == ["20250220", "20240105"]
    assert values(found, "PatientName") == ["Test^Person"] * 2
    assert list(found[1].ModalitiesInStudy) == ["CT", "MR"]
    assert (found[1].NumberOfStudyRelatedSeries, found[1].NumberOfStudyRelatedInstances) == (2, 4)
    assert {match.RetrieveAETitle for match in found} == {"NODE"}
    assert {match.InstanceAvailability for match in found} == {"ONLINE"}
    assert {match.QueryRetrieveLevel for match in found} == {"STUDY"}
    assert "StudyTime" not in found[0]  # was not asked for


def test_every_level_of_both_roots(archive: Archive, tmp_path: Path) -> None:
    study, series = "StudyInstanceUID=1.1", "SeriesInstanceUID=1.1.1"
    queries = {
        ("-P", "PATIENT", "PatientID", "PatientSex=M", "NumberOfPatientRelatedInstances"): ["I-2"],
        ("-P", "STUDY", "PatientID=M-1", "StudyInstanceUID"): ["1.4"],
        ("-P", "SERIES", "PatientID=P1", study, "SeriesInstanceUID"): ["1.1.1", "1.1.2"],
        ("-P", "IMAGE", "PatientID=P1", study, series, "SOPInstanceUID"): ["1.1.1.1", "1.1.1.2", "1.1.1.3"],
        ("-S", "STUDY", "StudyInstanceUID", "StudyDate=20250101-20250131"): ["1.4"],
        ("-S", "SERIES", study, "SeriesInstanceUID", "Modality=MR"): ["1.1.2"],
        ("-S", "IMAGE", study, series, "SOPInstanceUID=1.1.1.2"): ["1.1.1.2"],
        ("-O", "STUDY", "PatientID=P/3", "StudyInstanceUID"): ["1.3"],
    }
    unique = {
        "PATIENT": "PatientID",
        "STUDY": "StudyInstanceUID",
        "SERIES": "SeriesInstanceUID",
        "IMAGE": "SOPInstanceUID",
    }
    for number, ((root, level, *keys), expected) in enumerate(queries.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = find(archive, folder, f"QueryRetrieveLevel={level}", *keys, root=root)
        assert values(found, unique[level]) == expected, (root, level)


def test_who_may_not_query_finds_no_presentation_context(archive: Archive) -> None:
    for calling in ("GETTER", "NEITHER", "STRANGER"):
        answer = findscu(archive.port, "-S", "-k", "QueryRetrieveLevel=STUDY", calling=calling)
        assert answer.returncode != 0
        assert "No Acceptable Presentation Contexts" in answer.stdout
    assert findscu(archive.port, "-S", "-k", "QueryRetrieveLevel=STUDY", calling="FINDER").returncode == 0

"""Studies with vendors' own objects, sent by real senders: nothing is refused, and nothing else suffers."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.dimse.listening_node import ListeningNode, StartNode
from tests.dimse.raw_peer import dataset_part
from tests.factories import ct_series
from tests.peer_servers import OrthancServer, run_tool, start_orthanc

pytestmark = pytest.mark.peers

CSA_NON_IMAGE = "1.3.12.2.1107.5.9.1"
GE_IMPLICIT_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
FUTURE_CLASS = "1.2.840.10008.5.1.4.1.1.9999"


def csa_non_image(study: Dataset, sop_class_uid: str = CSA_NON_IMAGE, number: int = 1) -> bytes:
    """A Siemens CSA Non-Image object: no pixels, a private block instead."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, f"2.25.55{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study.StudyInstanceUID, f"2.25.66{number}"
    ds.Modality, ds.Manufacturer, ds.InstanceNumber = "OT", "SIEMENS", 1
    ds.PatientName, ds.PatientID = study.PatientName, study.PatientID
    block = ds.private_block(0x0029, "SIEMENS CSA NON-IMAGE", create=True)
    block.add_new(0x10, "OB", bytes(range(256)) * 8)
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def in_ge_syntax(part10: bytes) -> bytes:
    """An image with implicit VR little endian elements and big endian pixels, as GE writes them."""
    ds = dcmread(BytesIO(part10))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.777"
    ds.SeriesInstanceUID = "2.25.778"
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    buffer = BytesIO()
    ds.file_meta.TransferSyntaxUID = GE_IMPLICIT_BIG_ENDIAN_PIXELS
    ds.save_as(buffer, implicit_vr=True, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def mixed_study(tmp_path: Path) -> list[Path]:
    """Three CT slices, two private objects, one of a future class, and at the end a slice in GE's transfer syntax."""
    series = ct_series(n_slices=3, rows=32)
    study = series[0].dataset()
    files = [instance.part10 for instance in series]
    files += [csa_non_image(study), csa_non_image(study, "1.2.840.113619.4.27", 2)]
    files += [csa_non_image(study, FUTURE_CLASS, 3), in_ge_syntax(series[1].part10)]
    folder = tmp_path / "study"
    folder.mkdir()
    paths = [folder / f"{index}.dcm" for index in range(len(files))]
    for path, part10 in zip(paths, files, strict=True):
        path.write_bytes(part10)
    return paths


def expect_all(node: ListeningNode, paths: list[Path]) -> None:
    sent = {}
    for path in paths:
        meta = dcmread(path, specific_tags=[]).file_meta
        sent[meta.MediaStorageSOPInstanceUID] = (meta.MediaStorageSOPClassUID, dataset_part(path.read_bytes()))
    kept = {
        row.sop_instance_uid: (row.sop_class_uid, node.dataset_bytes(row.sop_instance_uid)) for row in node.instances()
    }
    assert set(kept) == set(sent)
    assert {uid: sop_class_uid for uid, (sop_class_uid, _) in kept.items()} == {
        uid: sop_class_uid for uid, (sop_class_uid, _) in sent.items()
    }


def store_job(orthanc: OrthancServer, paths: list[Path]) -> dict[str, Any]:
    """Upload files to Orthanc, let it send all it has in one job to the node, and return how that job ended."""
    with httpx.Client(base_url=orthanc.url, trust_env=False, timeout=60) as client:
        for path in paths:
            client.post("/instances", content=path.read_bytes()).raise_for_status()
        resources = client.get("/instances").json()
        assert len(resources) == len(paths)
        body = {"Resources": resources, "Asynchronous": True}
        job = client.post("/modalities/node/store", json=body).raise_for_status().json()["ID"]
        end_at = time.monotonic() + 60
        while (found := client.get(f"/jobs/{job}").json())["State"] in ("Pending", "Running"):
            assert time.monotonic() < end_at
            time.sleep(0.05)
        return dict(found)


def test_orthanc_sends_a_mixed_study_in_one_job(node: ListeningNode, mixed_study: list[Path], tmp_path: Path) -> None:
    from_orthanc = mixed_study[:-1]  # Orthanc does not send GE's transfer syntax to anybody
    with start_orthanc(tmp_path / "orthanc", modalities={"node": ("NODE", node.port)}) as orthanc:
        job = store_job(orthanc, from_orthanc)
    assert (job["State"], job["Content"]["FailedInstancesCount"]) == ("Success", 0)
    expect_all(node, from_orthanc)


def test_orthancs_job_fails_where_the_setting_is_off(
    start_node: StartNode, mixed_study: list[Path], tmp_path: Path
) -> None:
    with (
        start_node(accept_unknown_uids=False) as node,
        start_orthanc(tmp_path / "orthanc", modalities={"node": ("NODE", node.port)}) as orthanc,
    ):
        job = store_job(orthanc, mixed_study[:-1])
    assert (job["State"], job["ErrorCode"] != 0) == ("Failure", True)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about GE's transfer syntax
def test_dcmsend_sends_a_mixed_study(node: ListeningNode, mixed_study: list[Path]) -> None:
    sent = run_tool("dcmsend", "-v", "-aec", "NODE", "+sd", "127.0.0.1", node.port, mixed_study[0].parent)
    assert sent.returncode == 0, sent.stdout
    expect_all(node, mixed_study)

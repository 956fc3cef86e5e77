"""A series goes from a real PACS to a real node, and the SEG comes back and lies where the images say."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import highdicom as hd
import httpx
import numpy as np
import pytest
import SimpleITK as sitk
from dicomweb_client.api import DICOMwebClient
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from dicom_node.store import SeriesState, Store
from tests.factories import AIR_HU, SyntheticSeries, ct_series, mr_series, phantom_hu, series_affine
from tests.node_process import RunningNode, start_node, wait_for
from tests.peer_servers import OrthancServer, free_port, start_orthanc
from tests.tiny_models import write_tiny_model

pytestmark = [pytest.mark.peers, pytest.mark.slow]

BODY_ABOVE = 800.0  # the phantom's skin is at 1900, its inside near 1000, its air at 0: about half-way


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round-trip")


@pytest.fixture(scope="module")
def node_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def pacs(folder: Path, node_port: int) -> Iterator[OrthancServer]:
    with start_orthanc(folder / "pacs", modalities={"node": ("NODE", node_port)}) as orthanc:
        yield orthanc


@pytest.fixture(scope="module")
def archive(folder: Path) -> Iterator[OrthancServer]:
    with start_orthanc(folder / "archive", ae_title="ARCHIVE") as orthanc:
        yield orthanc


@pytest.fixture(scope="module")
def node(folder: Path, pacs: OrthancServer, archive: OrthancServer, node_port: int) -> Iterator[RunningNode]:
    """A node whose models mark what lies above a threshold, at 1 mm: a body with a truth that is known."""
    settings = {
        "peers": [
            {
                "name": "pacs",
                "kind": "dimse",
                "ae_title": pacs.ae_title,
                "host": pacs.host,
                "port": pacs.port,
                "commitment": True,
            },
            {"name": "archive", "kind": "dicomweb", "url": archive.dicomweb_url, "forward_sources": True},
        ],
        "deliver_to": ["pacs", "archive"],
        "models": {
            "foreground": str(write_tiny_model(folder / "fg", "foreground", above=BODY_ABOVE, spacing_mm=(1, 1, 1))),
            "anonymized": str(write_tiny_model(folder / "an", "anonymized", above=1e6, spacing_mm=(1, 1, 1))),
        },
    }
    with start_node(folder / "node", settings, port=node_port) as running:
        yield running


def upload(orthanc: OrthancServer, instances: Sequence[bytes]) -> str:
    """Store instances in Orthanc through its REST interface; the identifier that it gives their series."""
    answers = [httpx.post(f"{orthanc.url}/instances", content=one, timeout=30.0, trust_env=False) for one in instances]
    assert {answer.status_code for answer in answers} == {httpx.codes.OK}
    return str(answers[0].json()["ParentSeries"])


def send_to_node(orthanc: OrthancServer, series_id: str) -> None:
    """Have Orthanc send a series to the node by C-STORE, as a person would from its page."""
    answer = httpx.post(f"{orthanc.url}/modalities/node/store", content=series_id, timeout=120.0, trust_env=False)
    assert answer.status_code == httpx.codes.OK, answer.text
    assert answer.json()["FailedInstancesCount"] == 0


def segmentations_in(orthanc: OrthancServer, study_instance_uid: str, modality: str = "SEG") -> list[dict[str, object]]:
    """What Orthanc's DICOMweb finds of SEG series, or those of another modality, in a study."""
    client = DICOMwebClient(orthanc.dicomweb_url)
    return list(client.search_for_series(study_instance_uid, search_filters={"Modality": modality}))


def stored_bytes(orthanc: OrthancServer, sop_instance_uid: str) -> bytes:
    """The file that Orthanc keeps of an instance."""
    found = httpx.post(f"{orthanc.url}/tools/lookup", content=sop_instance_uid, trust_env=False, timeout=240).json()
    return httpx.get(f"{orthanc.url}/instances/{found[0]['ID']}/file", trust_env=False, timeout=240).content


def read_by_dcmqi(part10: bytes) -> dict[int, sitk.Image]:
    """Segment number to image, as dcmqi's ``segimage2itkimage`` decodes a SEG."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seg.dcm").write_bytes(part10)
        arguments = ["--inputDICOM", "seg.dcm", "--outputDirectory", ".", "-t", "nrrd", "-p", "s"]
        subprocess.run(
            [Path(sys.executable).with_name("segimage2itkimage"), *arguments],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=240,
        )
        return {int(path.stem.split("-")[1]): sitk.ReadImage(str(path)) for path in sorted(folder.glob("s-*.nrrd"))}


def assert_lies_on_truth(image: sitk.Image, series: SyntheticSeries) -> None:
    """Compare a decoded segment with the phantom in patient space, at the centre of every source voxel."""
    truth = series.truth
    expected = np.asarray(truth.array) > BODY_ABOVE
    indices = np.argwhere(np.ones(expected.shape, dtype=bool))
    points = indices @ truth.affine[:3, :3].T + truth.affine[:3, 3]
    origin, direction = np.array(image.GetOrigin()), np.array(image.GetDirection()).reshape(3, 3)
    at = np.rint(np.linalg.solve(direction * np.array(image.GetSpacing()), (points - origin).T).T).astype(int)
    array = sitk.GetArrayFromImage(image)
    inside = np.all((at >= 0) & (at < np.array(image.GetSize())), axis=1)
    found = np.zeros(len(points), dtype=bool)
    found[inside] = array[tuple(at[inside, ::-1].T)] > 0
    found = found.reshape(expected.shape)
    agreement = dice(found, expected)
    assert agreement > 0.95, f"Dice {agreement:.3f} between the SEG and the phantom"
    shifted = [dice(np.roll(found, step, axis), expected) for axis in range(3) for step in (-1, 1)]
    assert max(shifted) < agreement, "one voxel aside it fits better"


def dice(found: NDArray[np.bool_], expected: NDArray[np.bool_]) -> float:
    """Overlap of two masks, 1 for equal ones."""
    return float(2 * np.count_nonzero(found & expected) / (np.count_nonzero(found) + np.count_nonzero(expected)))


def ct_body(n_slices: int, spacing_mm: tuple[float, float, float], seed: str) -> SyntheticSeries:
    """The phantom as CT, lifted so that one threshold serves CT and MR."""
    shape = (n_slices, 40, 36)
    voxels = phantom_hu(shape, series_affine(spacing_mm)) - AIR_HU
    return ct_series(n_slices, spacing_mm=spacing_mm, voxels_hu=voxels, seed=f"ct-{seed}")


def mr_body(n_slices: int, spacing_mm: tuple[float, float, float], seed: str) -> SyntheticSeries:
    """The phantom as sagittal MR."""
    return mr_series(n_slices, spacing_mm=spacing_mm, seed=f"mr-{seed}")


@pytest.mark.parametrize("make", [ct_body, mr_body], ids=["ct", "mr"])
def test_a_series_sent_from_orthanc_comes_back_as_a_seg_in_both_archives(
    make: Callable[..., SyntheticSeries], node: RunningNode, pacs: OrthancServer, archive: OrthancServer
) -> None:
    series = make(24, (2.5, 2.0, 1.5), "round-trip")
    headers = series.datasets()
    study_instance_uid = str(headers[0].StudyInstanceUID)
    send_to_node(pacs, upload(pacs, [instance.part10 for instance in series]))

    for orthanc in (pacs, archive):
        found = wait_for("a SEG", lambda at=orthanc: segmentations_in(at, study_instance_uid))
        assert len(found) == 1
        wait_for("an SR", lambda at=orthanc: segmentations_in(at, study_instance_uid, "SR"))
    (report,) = DICOMwebClient(pacs.dicomweb_url).search_for_instances(
        study_instance_uid, search_filters={"SOPClassUID": ComprehensiveSRStorage}
    )
    (instance,) = DICOMwebClient(pacs.dicomweb_url).search_for_instances(
        study_instance_uid, search_filters={"SOPClassUID": SegmentationStorage}
    )
    uid = instance["00080018"]["Value"][0]
    content = hd.sr.srread(io.BytesIO(stored_bytes(pacs, report["00080018"]["Value"][0]))).content
    (group,) = content.get_volumetric_roi_measurement_groups()
    assert group.referenced_segment.referenced_sop_instance_uid == uid
    returned = dcmread(io.BytesIO(stored_bytes(pacs, uid)))
    assert returned.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert returned.PatientName == headers[0].PatientName
    referenced = returned.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == headers[0].SeriesInstanceUID

    assert stored_pixels(stored_bytes(archive, uid)) == stored_pixels(stored_bytes(pacs, uid))
    (from_node,) = DICOMwebClient(node.dicomweb_url).retrieve_series(study_instance_uid, returned.SeriesInstanceUID)
    assert from_node.PixelData == returned.PixelData
    assert_lies_on_truth(read_by_dcmqi(stored_bytes(pacs, uid))[1], series)


def stored_pixels(part10: bytes) -> bytes:
    return bytes(dcmread(io.BytesIO(part10)).PixelData)


def test_results_are_committed_to_and_sources_are_forwarded(
    node: RunningNode, pacs: OrthancServer, archive: OrthancServer
) -> None:
    """The PACS reports on an association of its own, to the process that receives."""
    series = ct_body(16, (3.0, 2.0, 2.0), "committed")
    headers = series.datasets()
    uid = str(headers[0].StudyInstanceUID)
    send_to_node(pacs, upload(pacs, [instance.part10 for instance in series]))
    wait_for("a SEG", lambda: segmentations_in(pacs, uid))

    def found() -> list[dict[str, object]]:
        filters = {"SeriesInstanceUID": str(headers[0].SeriesInstanceUID)}
        return list(DICOMwebClient(archive.dicomweb_url).search_for_instances(uid, search_filters=filters))

    wait_for("the sources in the archive", lambda: len(found()) == len(series))
    wait_for("the commitment", lambda: set(node_status(node)["commitments"].get("pacs", {"none": 0})) == {"committed"})


def test_sending_the_same_series_again_changes_nothing(node: RunningNode, pacs: OrthancServer) -> None:
    series = ct_body(20, (3.0, 2.0, 1.5), "again")
    study_instance_uid = str(series.datasets()[0].StudyInstanceUID)
    series_id = upload(pacs, [instance.part10 for instance in series])
    send_to_node(pacs, series_id)
    wait_for("a SEG", lambda: segmentations_in(pacs, study_instance_uid))
    before = node_status(node)
    send_to_node(pacs, series_id)
    wait_until_quiet(node)
    assert node_status(node)["jobs"] == before["jobs"]
    assert len(segmentations_in(pacs, study_instance_uid)) == 1


def test_a_whole_study_sent_back_does_not_make_results_of_results(node: RunningNode, pacs: OrthancServer) -> None:
    series = ct_body(22, (3.0, 2.0, 1.5), "sent-back")
    study_instance_uid = str(series.datasets()[0].StudyInstanceUID)
    send_to_node(pacs, upload(pacs, [instance.part10 for instance in series]))
    wait_for("a SEG", lambda: segmentations_in(pacs, study_instance_uid))
    wait_for("an SR", lambda: segmentations_in(pacs, study_instance_uid, "SR"))
    study = httpx.post(f"{pacs.url}/tools/lookup", content=study_instance_uid, trust_env=False, timeout=240).json()[0][
        "ID"
    ]
    before = node_status(node)
    send_to_node(pacs, study)  # images, SEG and SR, the latter two as the PACS keeps them
    wait_until_quiet(node)
    assert node_status(node)["jobs"] == before["jobs"]
    archive = httpx.get(f"{pacs.url}/studies/{study}/archive", timeout=240.0, trust_env=False).content
    with zipfile.ZipFile(io.BytesIO(archive)) as entries:
        assert len(entries.namelist()) == 22 + 2


def wait_until_quiet(node: RunningNode) -> None:
    """Wait until the node waits for no more of any series."""
    with Store.open(node.data_dir) as store:
        wait_for("the series to be quiet", lambda: not store.series.list(state=SeriesState.RECEIVING))


def node_status(node: RunningNode) -> dict[str, dict[str, int]]:
    """What ``dicom-node status --json`` says."""
    answer = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", "status", "-c", str(node.settings_path), "--json"],
        capture_output=True, check=True, timeout=240,
    )  # fmt: skip
    return dict(json.loads(answer.stdout))


def test_orthanc_finds_a_study_here_and_has_it_sent_back(node: RunningNode, pacs: OrthancServer) -> None:
    """What it has lost: images, SEG and SR come back by C-FIND and C-MOVE through the processes of a real node."""
    series = ct_body(18, (3.0, 2.0, 1.5), "retrieved")
    uid = series.study_instance_uid
    send_to_node(pacs, upload(pacs, [instance.part10 for instance in series]))
    wait_for("an SR", lambda: segmentations_in(pacs, uid, "SR"))
    lookup = httpx.post(f"{pacs.url}/tools/lookup", content=uid, trust_env=False, timeout=240).json()
    httpx.delete(f"{pacs.url}/studies/{lookup[0]['ID']}", trust_env=False, timeout=240).raise_for_status()

    asked = {"Level": "Study", "Query": {"StudyInstanceUID": uid, "ModalitiesInStudy": "CT", "PatientName": "*"}}
    query = httpx.post(f"{pacs.url}/modalities/node/query", json=asked, trust_env=False, timeout=240).json()
    answers = f"{pacs.url}{query['Path']}/answers"
    (found,) = httpx.get(f"{answers}?expand&simplify", trust_env=False, timeout=240).json()
    assert (found["StudyInstanceUID"], found["PatientName"]) == (uid, str(series.datasets()[0].PatientName))
    assert sorted(found["ModalitiesInStudy"].split("\\")) == ["CT", "SEG", "SR"]
    below = httpx.post(
        f"{answers}/0/query-series", json={"Query": {"Modality": ""}}, trust_env=False, timeout=240
    ).json()
    of_series = httpx.get(f"{pacs.url}{below['Path']}/answers?expand&simplify", trust_env=False, timeout=240).json()
    assert {one["Modality"] for one in of_series} == {"CT", "SEG", "SR"}

    retrieve = httpx.post(f"{pacs.url}{query['Path']}/retrieve", content="ORTHANC", trust_env=False, timeout=240)
    assert retrieve.status_code == httpx.codes.OK, retrieve.text
    study = httpx.get(f"{pacs.url}/studies/{lookup[0]['ID']}/statistics", trust_env=False, timeout=240).json()
    assert int(study["CountInstances"]) == len(series) + 2

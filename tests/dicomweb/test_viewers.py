"""Requests as viewers send them: Weasis, OHIF and dicomweb-client."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from tests.dicomweb.conftest import Archive
from tests.dicomweb.test_retrieve_over_http import datasets, instance_path, parts, path_of


def test_weasis_lists_a_patient_and_loads_a_series(archive: Archive, http: httpx.Client) -> None:
    """Studies of a patient as XML or JSON, then series and instances, then each instance by itself."""
    query = {"PatientID": "P2", "includefield": ["00081030", "00080061", "00201206"], "limit": "100", "offset": "0"}
    studies = http.get("/studies", params=query, headers={"Accept": "application/dicom+json"}).json()
    assert {study["0020000D"]["Value"][0] for study in studies} == {
        archive.compressed.study_instance_uid,
        archive.implicit.study_instance_uid,
    }
    series = http.get(f"/studies/{archive.compressed.study_instance_uid}/series", params={"includefield": "all"}).json()
    instances = http.get(f"{path_of(archive.compressed)}/instances", params={"includefield": "00280008"}).json()
    assert (len(series), len(instances)) == (1, 2)
    for instance, source in zip(instances, archive.compressed, strict=True):
        url = instance["00081190"]["Value"][0]
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        (received,) = datasets(parts(http.get(url, headers={"Accept": accept})))
        assert received == source.dataset()
        picture = http.get(f"{url}/thumbnail", headers={"Accept": "image/jpeg"})
        assert Image.open(io.BytesIO(picture.content)).format == "JPEG"


def test_weasis_loads_from_a_manifest_by_wado_uri(archive: Archive) -> None:
    ds = archive.compressed[0].dataset()
    answer = httpx.get(
        f"{archive.url}/wado?requestType=WADO&studyUID={ds.StudyInstanceUID}&seriesUID={ds.SeriesInstanceUID}"
        f"&objectUID={ds.SOPInstanceUID}&contentType=application%2Fdicom&transferSyntax=1.2.840.10008.1.2.1",
        headers={"Accept": "image/png, image/gif; q=0.9, image/jpeg; q=0.8, */*; q=0.1"},
        trust_env=False,
    )
    received = dcmread(io.BytesIO(answer.content))
    assert received.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    np.testing.assert_array_equal(received.pixel_array, ds.pixel_array)


@pytest.mark.parametrize("accept", ["multipart/related; type=application/octet-stream; transfer-syntax=*", "*/*"])
def test_ohif_reads_metadata_then_frames_and_a_thumbnail(archive: Archive, http: httpx.Client, accept: str) -> None:
    studies = http.get(
        "/studies", params={"limit": 101, "offset": 0, "fuzzymatching": "false", "includefield": "00081030,00080060"}
    )
    assert studies.status_code == 200
    metadata = http.get(f"{path_of(archive.ct)}/metadata").json()
    for one, source in zip(metadata, archive.ct, strict=True):
        path = f"{path_of(archive.ct)}/instances/{one['00080018']['Value'][0]}"
        ((_, pixels),) = parts(http.get(f"{path}/frames/1", headers={"Accept": accept}))
        assert pixels == source.dataset().PixelData
    assert http.get(f"{path_of(archive.ct)}/thumbnail", params={"accept": "image/jpeg"}).status_code == 200


def test_dicomweb_client_gets_pictures_frames_and_bulk_data(archive: Archive) -> None:
    client = DICOMwebClient(archive.root)
    uids = [
        str(archive.ct[0].dataset()[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    ]
    for media_type in ("image/jpeg", "image/png"):
        picture = client.retrieve_instance_rendered(
            *uids, media_types=(media_type,), params={"window": "40,400,linear"}
        )
        assert Image.open(io.BytesIO(picture)).size[0] == 12
    rendered = client.retrieve_instance_frames_rendered(*uids, [1], media_types=("image/png",))
    assert Image.open(io.BytesIO(rendered)).format == "PNG"
    (frame,) = client.retrieve_instance_frames(*uids, [1])
    assert frame == archive.ct[0].dataset().PixelData
    metadata = client.retrieve_instance_metadata(*uids)
    (bulk,) = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert bulk == frame
    found = client.search_for_studies(
        fuzzymatching=True, search_filters={"PatientName": "zoe"}, fields=["PixelSpacing"]
    )
    assert len(found) == 2
    assert all("00280030" in study for study in found)
    assert instance_path(archive.ct[0]).endswith(uids[2])

"""dicomweb-client against the node: what 3D Slicer and scripts use."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from tests.dicomweb.conftest import Archive


@pytest.fixture
def client(archive: Archive) -> Iterator[DICOMwebClient]:
    client = DICOMwebClient(archive.root)
    yield client
    client._session.close()


def test_it_searches_at_three_levels(archive: Archive, client: DICOMwebClient) -> None:
    studies = client.search_for_studies(search_filters={"PatientName": "Phantom*"}, fields=["StudyDescription"])
    assert archive.ct.study_instance_uid in {study["0020000D"]["Value"][0] for study in studies}
    series = client.search_for_series(archive.ct.study_instance_uid, search_filters={"Modality": "MR"})
    assert [Dataset.from_json(found).SeriesInstanceUID for found in series] == [archive.mr.series_instance_uid]
    instances = client.search_for_instances(
        archive.ct.study_instance_uid, archive.ct.series_instance_uid, limit=2, offset=1
    )
    assert [found["00200013"]["Value"] for found in instances] == [[2], [3]]
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []


@pytest.mark.parametrize("name", ["ct", "mr", "compressed", "implicit"])
def test_it_retrieves_a_series_with_its_pixels(archive: Archive, client: DICOMwebClient, name: str) -> None:
    series = getattr(archive, name)
    found = client.retrieve_series(series.study_instance_uid, series.series_instance_uid)
    assert [ds.SOPInstanceUID for ds in found] == [ds.SOPInstanceUID for ds in series.datasets()]
    for ds, source in zip(found, series.datasets(), strict=True):
        np.testing.assert_array_equal(ds.pixel_array, source.pixel_array)
        assert ds.PatientName == source.PatientName


def test_it_retrieves_studies_and_instances(archive: Archive, client: DICOMwebClient) -> None:
    assert len(client.retrieve_study(archive.ct.study_instance_uid)) == 7
    source = archive.compressed[1].dataset()
    ds = client.retrieve_instance(
        source.StudyInstanceUID,
        source.SeriesInstanceUID,
        source.SOPInstanceUID,
        media_types=(("application/dicom", "*"),),
    )
    assert ds == source


def test_it_iterates_over_a_streamed_series(archive: Archive, client: DICOMwebClient) -> None:
    found = client.iter_series(archive.ct.study_instance_uid, archive.ct.series_instance_uid)
    assert [ds.InstanceNumber for ds in found] == [1, 2, 3, 4]


def test_it_reads_metadata_and_bulk_data(archive: Archive, client: DICOMwebClient) -> None:
    (*_, members) = client.retrieve_series_metadata(archive.ct.study_instance_uid, archive.ct.series_instance_uid)
    source = archive.ct[3].dataset()
    assert Dataset.from_json({tag: m for tag, m in members.items() if "BulkDataURI" not in m}).Rows == source.Rows
    (pixels,) = client.retrieve_bulkdata(members["7FE00010"]["BulkDataURI"])
    assert pixels == source.PixelData


def test_it_retrieves_frames(archive: Archive, client: DICOMwebClient) -> None:
    for series in (archive.ct, archive.compressed):
        source = series[0].dataset()
        uids = (source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID)
        (frame,) = client.retrieve_instance_frames(*uids, frame_numbers=[1], media_types=("application/octet-stream",))
        pixels = np.frombuffer(frame, source.pixel_array.dtype).reshape(source.pixel_array.shape)
        np.testing.assert_array_equal(pixels, source.pixel_array)


def test_a_refusal_reaches_the_client_as_a_status(archive: Archive, client: DICOMwebClient) -> None:
    with pytest.raises(Exception, match="404") as raised:
        client.retrieve_series("1.2.3", "1.2.4")
    assert raised.value.response.status_code == httpx.codes.NOT_FOUND

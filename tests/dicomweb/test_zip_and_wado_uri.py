"""Zip archives, and WADO-URI as old viewers ask."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from dicom_node.dicomweb.errors import UnreadableObjectError
from dicom_node.dicomweb.kept_metadata import KeptMetadata
from dicom_node.store.schema import instances
from tests.dicomweb.conftest import Archive
from tests.factories import EncodedInstance


def zipped(answer: httpx.Response) -> zipfile.ZipFile:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip"), answer.text
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    return archive


def test_a_study_a_series_and_an_instance_come_zipped(archive: Archive, http: httpx.Client) -> None:
    ds = archive.ct[0].dataset()
    study = f"/studies/{ds.StudyInstanceUID}"
    series = f"{study}/series/{ds.SeriesInstanceUID}"
    for path, n_files in ((study, 7), (series, 4), (f"{series}/instances/{ds.SOPInstanceUID}", 1)):
        answer = http.get(path, headers={"Accept": "application/zip"})
        assert answer.headers["content-disposition"] == f'attachment; filename="{path.rpartition("/")[2]}.zip"'
        names = zipped(answer).namelist()
        assert len(names) == n_files
        assert f"{ds.StudyInstanceUID}/{ds.SeriesInstanceUID}/{ds.SOPInstanceUID}.dcm" in names
    found = zipped(http.get(series, headers={"Accept": "application/zip"}))
    datasets = [dcmread(io.BytesIO(found.read(name))) for name in found.namelist()]
    assert datasets == archive.ct.datasets()


def test_zipped_instances_are_as_stored_unless_a_transfer_syntax_is_asked_for(
    archive: Archive, http: httpx.Client
) -> None:
    path = f"/studies/{archive.compressed.study_instance_uid}"
    for accept, expected in (
        ("application/zip", JPEG2000Lossless),
        (f"application/zip; transfer-syntax={ExplicitVRLittleEndian}", ExplicitVRLittleEndian),
    ):
        found = zipped(http.get(path, headers={"Accept": accept}))
        read = [dcmread(io.BytesIO(found.read(name))) for name in found.namelist()]
        assert {ds.file_meta.TransferSyntaxUID for ds in read} == {expected}
        for ds, source in zip(read, archive.compressed.datasets(), strict=True):
            np.testing.assert_array_equal(ds.pixel_array, source.pixel_array)


def wado(archive: Archive, instance: EncodedInstance, **query: str) -> httpx.Response:
    ds = instance.dataset()
    uids = {"studyUID": ds.StudyInstanceUID, "seriesUID": ds.SeriesInstanceUID, "objectUID": ds.SOPInstanceUID}
    parameters = {"requestType": "WADO", **uids, **query}
    return httpx.get(f"{archive.url}/wado", params=parameters, trust_env=False, timeout=60)


def size_of(answer: httpx.Response) -> tuple[int, int]:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content)).size


def test_wado_uri_returns_dicom(archive: Archive) -> None:
    (stored, *_) = archive.compressed
    answer = wado(archive, stored, contentType="application/dicom")
    assert answer.headers["content-type"] == "application/dicom"
    ds = dcmread(io.BytesIO(answer.content))
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    np.testing.assert_array_equal(ds.pixel_array, stored.dataset().pixel_array)
    answer = wado(archive, stored, contentType="application/dicom", transferSyntax=str(JPEG2000Lossless))
    assert dcmread(io.BytesIO(answer.content)).PixelData == stored.dataset().PixelData
    refused = wado(archive, stored, contentType="application/dicom", transferSyntax="1.2.3")
    assert (refused.status_code, refused.json()["code"]) == (406, "not-acceptable")


def test_wado_uri_returns_pictures(archive: Archive) -> None:
    (image, *_) = archive.compressed
    rows, columns = image.dataset().pixel_array.shape
    ratio = float(image.dataset().PixelSpacing[0]) / float(image.dataset().PixelSpacing[1])
    answer = wado(archive, image)
    assert answer.headers["content-type"] == "image/jpeg"
    assert size_of(answer) == (round(columns * max(1, 1 / ratio)), round(rows * max(1, ratio)))
    assert wado(archive, image, contentType="image/png").headers["content-type"] == "image/png"
    assert max(size_of(wado(archive, image, rows="32", columns="32"))) == 32
    assert size_of(wado(archive, image, rows="10"))[1] == 10
    whole, half = (
        size_of(wado(archive, image, contentType="image/png", **extra)) for extra in ({}, {"region": "0,0,0.5,1"})
    )
    assert half[1] == whole[1]
    assert abs(half[0] - whole[0] / 2) <= 1
    bright, dark = (
        np.asarray(
            Image.open(
                io.BytesIO(wado(archive, image, contentType="image/png", windowCenter=center, windowWidth="1").content)
            )
        ).mean()
        for center in ("-5000", "5000")
    )
    assert (bright, dark) == (255, 0)
    assert "imageAnnotation" in wado(archive, image, imageAnnotation="patient").headers["warning"]


@pytest.fixture
def replaced(archive: Archive) -> Iterator[EncodedInstance]:
    """An instance that counts as replaced by a later result: only who knows its UID finds it."""

    def set_superseded(moment: datetime | None) -> None:
        with archive.store._database.write() as connection:
            uid = str(archive.multiframe.dataset().SOPInstanceUID)
            is_it = instances.c.sop_instance_uid == uid
            connection.execute(sa.update(instances).where(is_it).values(superseded_at=moment))

    set_superseded(datetime.now(UTC))
    yield archive.multiframe
    set_superseded(None)


def test_wado_uri_returns_a_result_that_was_replaced(archive: Archive, replaced: EncodedInstance) -> None:
    answer = wado(archive, replaced)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")


def test_metadata_of_an_unreadable_result_that_was_replaced_are_those_of_the_index(
    http: httpx.Client, replaced: EncodedInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> bytes:
        raise UnreadableObjectError("1.2", "its dataset does not decode")

    monkeypatch.setattr(KeptMetadata, "encoded", unreadable)
    ds = replaced.dataset()
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}/metadata"
    (members,) = http.get(path).json()
    assert members["00080018"]["Value"] == [ds.SOPInstanceUID]


def test_a_picture_of_stated_width_is_not_of_any_height(archive: Archive) -> None:
    (image, *_) = archive.compressed
    narrow = {"region": "0.5,0,0.5005,1", "contentType": "image/gif"}
    assert max(size_of(wado(archive, image, columns="100", **narrow))) <= 8192


def test_wado_uri_returns_one_frame_of_several(archive: Archive) -> None:
    assert wado(archive, archive.multiframe).headers["content-type"] == "application/dicom"
    assert wado(archive, archive.multiframe, contentType="image/png", frameNumber="3").status_code == 200
    assert wado(archive, archive.multiframe, contentType="image/png", frameNumber="4").status_code == 404


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"requestType": "WADO2"}, 400),
        ({"objectUID": "x"}, 400),
        ({"objectUID": "1.2.3"}, 404),
        ({"anonymize": "yes"}, 400),
        ({"presentationUID": "1.2"}, 400),
        ({"contentType": "text/html"}, 406),
        ({"rows": "0"}, 400),
        ({"region": "0.5,0,0.5,1"}, 400),
        ({"windowCenter": "1"}, 400),
        ({"imageQuality": "0"}, 400),
        ({"frameNumber": "-1"}, 400),
    ],
)
def test_a_wrong_wado_uri_request_is_a_problem(archive: Archive, query: dict[str, str], status: int) -> None:
    answer = wado(archive, archive.ct[0], **query)
    assert answer.status_code == status
    name = next(iter(query))
    assert status != 400 or name in answer.json()["detail"]

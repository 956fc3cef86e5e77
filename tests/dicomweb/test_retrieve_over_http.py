"""WADO-RS as a client meets it: bytes as stored, transfer syntaxes, bulk data, frames."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from tests.arrivals import dataset_bytes
from tests.dicomweb.conftest import OVERLAY, SCRIPT, Archive, one_bit_frames
from tests.factories import EncodedInstance, SyntheticSeries

AS_STORED = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
BYTES = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}


def parts(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Content-Type and body of each part, split as RFC 2046 says."""
    assert answer.status_code == 200, answer.text
    found = re.fullmatch(r'multipart/related; type="([^"]+)"; boundary=(\w+)', answer.headers["content-type"])
    assert found
    chunks = answer.content.split(b"--" + found[2].encode())
    assert chunks[0] == b""
    assert chunks[-1] == b"--\r\n"
    result = []
    for chunk in chunks[1:-1]:
        head, _, body = chunk.partition(b"\r\n\r\n")
        content_type = re.search(rb"Content-Type: ([^\r]+)", head)
        assert content_type
        result.append((content_type[1].decode(), body.removesuffix(b"\r\n")))
    return result


def path_of(series: SyntheticSeries) -> str:
    return f"/studies/{series.study_instance_uid}/series/{series.series_instance_uid}"


def instance_path(instance: EncodedInstance) -> str:
    ds = instance.dataset()
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def datasets(found: Sequence[tuple[str, bytes]]) -> list[Dataset]:
    return [dcmread(BytesIO(body)) for _, body in found]


def test_a_series_comes_back_byte_for_byte(archive: Archive, http: httpx.Client) -> None:
    found = parts(http.get(path_of(archive.ct), headers=AS_STORED))
    assert [dataset_bytes(body) for _, body in found] == [dataset_bytes(i.part10) for i in archive.ct]
    assert {content_type for content_type, _ in found} == {
        f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    }


def test_a_study_comes_back_with_all_its_series(archive: Archive, http: httpx.Client) -> None:
    found = datasets(parts(http.get(f"/studies/{archive.ct.study_instance_uid}")))
    assert {ds.SOPInstanceUID for ds in found} == {
        ds.SOPInstanceUID for ds in (*archive.ct.datasets(), *archive.mr.datasets())
    }


def test_one_instance_may_come_alone(archive: Archive, http: httpx.Client) -> None:
    accept = {"Accept": "application/dicom; transfer-syntax=*"}
    answer = http.get(instance_path(archive.ct[2]), headers=accept)
    assert answer.headers["content-type"] == "application/dicom"
    assert dataset_bytes(answer.content) == dataset_bytes(archive.ct[2].part10)
    assert http.get(path_of(archive.ct), headers=accept).status_code == 406


@pytest.mark.parametrize(
    "accept",
    ["*/*", AS_STORED["Accept"], f'multipart/related; type="application/dicom"; transfer-syntax={JPEG2000Lossless}'],
)
def test_compressed_instances_stay_compressed_where_that_is_taken(
    archive: Archive, http: httpx.Client, accept: str
) -> None:
    found = parts(http.get(path_of(archive.compressed), headers={"Accept": accept}))
    assert found[0][0] == f"application/dicom; transfer-syntax={JPEG2000Lossless}"
    assert [dataset_bytes(body) for _, body in found] == [dataset_bytes(i.part10) for i in archive.compressed]


@pytest.mark.parametrize("name", ["compressed", "implicit"])
@pytest.mark.parametrize("suffix", ["", f"; transfer-syntax={ExplicitVRLittleEndian}"])
def test_who_takes_only_explicit_little_endian_gets_the_same_pixels_in_it(
    archive: Archive, http: httpx.Client, name: str, suffix: str
) -> None:
    series = getattr(archive, name)
    accept = {"Accept": f'multipart/related; type="application/dicom"{suffix}'}
    found = parts(http.get(path_of(series), headers=accept))
    for ds, source in zip(datasets(found), series.datasets(), strict=True):
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert ds.SOPInstanceUID == source.SOPInstanceUID
        np.testing.assert_array_equal(ds.pixel_array, source.pixel_array)


def test_a_transfer_syntax_that_we_do_not_make_is_refused_with_the_one_we_have(
    archive: Archive, http: httpx.Client
) -> None:
    accept = {"Accept": f'multipart/related; type="application/dicom"; transfer-syntax={JPEGBaseline8Bit}'}
    answer = http.get(path_of(archive.ct), headers=accept)
    assert (answer.status_code, answer.json()["code"]) == (406, "not-acceptable")
    assert f"transfer-syntax={ExplicitVRLittleEndian} (or transfer-syntax=*)" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/studies/1.2.3", "/studies/1.2.3/series/4/instances/5", "/studies/1.2.3/metadata"])
def test_what_is_not_there_is_not_found(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-resource")


def test_an_instance_is_not_found_below_another_series(archive: Archive, http: httpx.Client) -> None:
    uid = archive.ct[0].dataset().SOPInstanceUID
    assert http.get(f"{path_of(archive.mr)}/instances/{uid}").status_code == 404


def test_metadata_has_every_element_and_pixels_by_reference(archive: Archive, http: httpx.Client) -> None:
    answer = http.get(f"{path_of(archive.ct)}/metadata", headers={"Accept": "application/dicom+json"})
    assert answer.headers["content-type"] == "application/dicom+json"
    for members, source in zip(answer.json(), archive.ct.datasets(), strict=True):
        pixels = members.pop("7FE00010")
        assert pixels["vr"] == "OW"
        assert pixels["BulkDataURI"].endswith(f"/instances/{source.SOPInstanceUID}/bulkdata/7FE00010")
        ds = Dataset.from_json(members)
        del source.PixelData
        assert ds == source


def test_pixel_data_is_streamed_from_its_bulk_data_uri(archive: Archive, http: httpx.Client) -> None:
    (members,) = http.get(f"{instance_path(archive.implicit[1])}/metadata").json()
    url = members["7FE00010"]["BulkDataURI"]
    assert http.get(url).content == archive.implicit[1].dataset().PixelData
    ((content_type, body),) = parts(http.get(url, headers=BYTES))
    assert content_type == "application/octet-stream"
    assert body == archive.implicit[1].dataset().PixelData


def test_nested_bulk_data_is_found_through_its_sequence(archive: Archive, http: httpx.Client) -> None:
    (members,) = http.get(f"{instance_path(archive.multiframe)}/metadata").json()
    nested = members["54000100"]["Value"][1]["54001010"]
    assert nested["BulkDataURI"].endswith("/bulkdata/54000100/2/54001010")
    assert http.get(nested["BulkDataURI"]).content == OVERLAY


@pytest.mark.parametrize(
    ("path", "status"),
    [("54000100/3/54001010", 404), ("54000100", 404), ("00420011", 404), ("xyz", 400), ("54000100/2", 400), ("1", 400)],
)
def test_bulk_data_that_is_not_there_is_a_problem(archive: Archive, http: httpx.Client, path: str, status: int) -> None:
    answer = http.get(f"{instance_path(archive.multiframe)}/bulkdata/{path}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_one_bit_frames_come_unpacked_from_their_neighbours(archive: Archive, http: httpx.Client) -> None:
    found = parts(http.get(f"{instance_path(archive.multiframe)}/frames/3,1,2", headers=BYTES))
    pixels = [np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")[:35].reshape(5, 7) for _, body in found]
    np.testing.assert_array_equal(pixels, one_bit_frames()[[2, 0, 1]])


def test_frames_come_as_stored_or_decoded(archive: Archive, http: httpx.Client) -> None:
    instance = archive.compressed[0]
    url = f"{instance_path(instance)}/frames/1"
    ((content_type, codestream),) = parts(http.get(url, headers={"Accept": 'multipart/related; type="image/jp2"'}))
    assert content_type == f"image/jp2; transfer-syntax={JPEG2000Lossless}"
    assert codestream.startswith(b"\xff\x4f\xff\x51")
    assert parts(http.get(url, headers=BYTES))[0][1] == codestream
    decoded = {"Accept": 'multipart/related; type="application/octet-stream"'}
    ((content_type, pixels),) = parts(http.get(url, headers=decoded))
    assert content_type == f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
    source = instance.dataset().pixel_array
    np.testing.assert_array_equal(np.frombuffer(pixels, source.dtype).reshape(source.shape), source)


@pytest.mark.parametrize(("frames", "status"), [("2", 404), ("0", 400), ("1,,1", 400), ("a", 400), ("1" * 20, 400)])
def test_frames_that_are_not_there_are_a_problem(
    archive: Archive, http: httpx.Client, frames: str, status: int
) -> None:
    assert http.get(f"{instance_path(archive.ct[0])}/frames/{frames}", headers=BYTES).status_code == status


@pytest.mark.parametrize("path", ["/studies", "/series", "/instances", "{series}/metadata", "{series}"])
def test_hostile_texts_stay_data(archive: Archive, http: httpx.Client, path: str) -> None:
    path = path.format(series=path_of(archive.hostile))
    answer = http.get(path, headers={"Accept": "text/html, */*"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] in {"application/dicom+json", "multipart/related"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_hostile_query_is_not_echoed_as_markup(http: httpx.Client) -> None:
    answer = http.get("/studies", params={SCRIPT: "1"})
    assert answer.headers["content-type"] == "application/dicom+json"
    assert answer.headers["warning"].endswith('no DICOM attribute: a parameter"')
    assert http.get(f"/{SCRIPT}").headers["content-type"] == "application/problem+json"


def test_other_methods_and_paths_are_problems(http: httpx.Client) -> None:
    posted = http.post("/studies", content=b"")
    assert (posted.status_code, posted.json()["code"]) == (405, "method-not-allowed")
    assert "GET" in posted.headers["allow"]


def test_health_is_live_and_ready(archive: Archive) -> None:
    for name in ("live", "ready"):
        answer = httpx.get(f"{archive.url}/health/{name}", trust_env=False, timeout=60)
        assert (answer.status_code, answer.json()["status"]) == (200, name)
        assert answer.json().get("troubles", []) == []

"""Paths and addresses in answers, for clients that reach the node directly or through a proxy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from dicomweb_client import DICOMwebClient

from tests.dicomweb.conftest import Archive
from tests.dicomweb.serving import serve
from tests.peer_servers import free_port, start_nginx

PUBLIC = "https://imaging.example.org/node"


def test_links_begin_with_the_public_url_whatever_host_the_proxy_asks_for(archive: Archive) -> None:
    study, series = archive.ct.study_instance_uid, archive.ct.series_instance_uid
    at = f"/dicom-web/studies/{study}"
    with (
        serve(archive.store, public_url=f"{PUBLIC}/") as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as http,
    ):
        (found,) = http.get(f"{at}/series", params={"SeriesInstanceUID": series}).json()
        (metadata, *_) = http.get(f"{at}/series/{series}/metadata").json()
        multipart = http.get(f"{at}/series/{series}", headers={"Accept": 'multipart/related; type="application/dicom"'})
        uri = metadata["7FE00010"]["BulkDataURI"]
        pixels = http.get(uri.replace(PUBLIC, url), headers={"Accept": "multipart/related"})
    assert found["00081190"]["Value"] == [f"{PUBLIC}{at}/series/{series}"]
    assert uri.startswith(f"{PUBLIC}{at}/series/{series}/instances/")
    assert f"Content-Location: {PUBLIC}{at}/series/{series}/instances/".encode() in multipart.content
    assert f"Content-Location: {uri}\r\n".encode() in pixels.content
    assert url.encode() not in multipart.content + pixels.content


@pytest.mark.parametrize(
    "path", ["/studies", "/series", "/studies/{study}/series", "/studies/{study}/metadata", "/studies/{study}"]
)
def test_a_slash_at_the_end_of_a_path_changes_nothing(archive: Archive, http: httpx.Client, path: str) -> None:
    path = path.format(study=archive.ct.study_instance_uid)
    with_slash, without = http.get(f"{path}/?PatientID="), http.get(f"{path}?PatientID=")
    assert with_slash.status_code == without.status_code == 200
    if "multipart" not in without.headers["content-type"]:
        assert with_slash.content == without.content


@pytest.mark.parametrize(
    "path", ["/", "/dicom-web", "/dicom-web/", "/health", "/dicom-web//studies", "//dicom-web/studies"]
)
def test_nothing_is_redirected(archive: Archive, path: str) -> None:
    assert httpx.get(archive.url + path, trust_env=False, timeout=60).status_code == 404


@pytest.fixture(params=["location /node/ {{ proxy_pass {url}/; }}", "location /node/ {{ proxy_pass {url}; }}"])
def proxied(archive: Archive, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a node after a real nginx, which takes its prefix from the path of a request or leaves it there."""
    port = free_port()
    public_url = f"http://127.0.0.1:{port}/node"
    with (
        serve(archive.store, public_url=public_url) as url,
        start_nginx(tmp_path, request.param.format(url=url), port=port),
    ):
        yield public_url


@pytest.mark.peers
def test_a_client_after_a_proxy_follows_every_address(archive: Archive, proxied: str) -> None:
    client = DICOMwebClient(f"{proxied}/dicom-web")
    (series,) = client.search_for_series(search_filters={"SeriesInstanceUID": archive.ct.series_instance_uid})
    (retrieve_url,) = series["00081190"]["Value"]
    assert retrieve_url.startswith(f"{proxied}/dicom-web/studies/")
    for address in (retrieve_url, f"{retrieve_url}/"):
        assert httpx.get(address, trust_env=False, timeout=60).status_code == 200
    metadata = httpx.get(f"{retrieve_url}/metadata/", trust_env=False, timeout=60).json()
    (pixels,) = client.retrieve_bulkdata(metadata[0]["7FE00010"]["BulkDataURI"])
    assert pixels == archive.ct[0].dataset().PixelData
    assert httpx.get(f"{proxied}/health/ready/", trust_env=False, timeout=60).json()["status"] == "ready"
    client._session.close()


def test_a_prefix_that_looks_like_a_root_is_taken_off_once(archive: Archive) -> None:
    with serve(archive.store, public_url="https://imaging.example.org/dicom-web") as url:
        for path in ("/dicom-web/studies", "/dicom-web/dicom-web/studies", "/dicom-web/health/live", "/health/live"):
            assert httpx.get(url + path, trust_env=False, timeout=60).status_code == 200
        assert httpx.get(f"{url}/other/dicom-web/studies", trust_env=False, timeout=60).status_code == 404


def test_a_proxy_without_a_public_url_is_one_line_in_the_log(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            httpx.get(
                f"{archive.url}/health/live", headers={"X-Forwarded-Prefix": "/node"}, trust_env=False, timeout=60
            )
    assert caplog.text.count("web.public_url is not set") == 1


def test_a_header_that_is_too_large_is_refused(archive: Archive) -> None:
    answer = httpx.get(f"{archive.url}/health/live", headers={"X-Large": "x" * 33_000}, trust_env=False, timeout=60)
    assert answer.status_code in {400, 431}  # 400 if it came in pieces


def test_head_is_answered(archive: Archive, http: httpx.Client) -> None:
    assert httpx.head(f"{archive.url}/health/live", trust_env=False).status_code == 200
    assert http.head(f"/studies/{archive.ct.study_instance_uid}").status_code == 200

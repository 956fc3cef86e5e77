"""Addresses in answers, for clients that reach the node through a proxy."""

from __future__ import annotations

import httpx

from tests.dicomweb.conftest import Archive
from tests.dicomweb.serving import serve

PUBLIC = "https://imaging.example.org/node"


def test_links_begin_with_the_public_url_whatever_host_the_proxy_asks_for(archive: Archive) -> None:
    study, series = archive.ct.study_instance_uid, archive.ct.series_instance_uid
    at = f"/dicom-web/studies/{study}"
    with serve(archive.store, public_url=f"{PUBLIC}/") as url, httpx.Client(base_url=url, trust_env=False) as http:
        (found,) = http.get(f"{at}/series", params={"SeriesInstanceUID": series}).json()
        (metadata, *_) = http.get(f"{at}/series/{series}/metadata").json()
        multipart = http.get(f"{at}/series/{series}", headers={"Accept": 'multipart/related; type="application/dicom"'})
    assert found["00081190"]["Value"] == [f"{PUBLIC}{at}/series/{series}"]
    assert metadata["7FE00010"]["BulkDataURI"].startswith(f"{PUBLIC}{at}/series/{series}/instances/")
    assert f"Content-Location: {PUBLIC}{at}/series/{series}/instances/".encode() in multipart.content
    assert url.encode() not in multipart.content

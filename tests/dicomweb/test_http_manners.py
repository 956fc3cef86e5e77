"""HEAD, OPTIONS, entity tags, byte ranges, content codings and CORS, as caches, proxies and browsers expect them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import httpx
import imagecodecs
import pytest

from tests.dicomweb.conftest import Archive
from tests.dicomweb.serving import serve
from tests.dicomweb.test_retrieve_over_http import instance_path, path_of

ORIGIN = "https://viewer.example.org"
WADL = "{http://wadl.dev.java.net/2009/02}"


@pytest.fixture(scope="module")
def open_http(archive: Archive) -> Iterator[httpx.Client]:
    """The same archive for pages of another site, with browsers that may keep answers."""
    with (
        serve(archive.store, cors_origins=[ORIGIN], browser_cache=True, stow=True) as url,
        httpx.Client(base_url=f"{url}/dicom-web", trust_env=False, timeout=60) as client,
    ):
        yield client


def retrievable(archive: Archive) -> list[str]:
    instance = instance_path(archive.ct[0])
    suffixes = ("", "/metadata", "/rendered", "/thumbnail", "/frames/1", "/frames/1/rendered", "/bulkdata/7FE00010")
    return [path_of(archive.ct), f"{path_of(archive.ct)}/metadata", *(instance + suffix for suffix in suffixes)]


def test_head_has_the_header_of_get_and_no_body(archive: Archive, http: httpx.Client) -> None:
    for path in (*retrievable(archive), "/studies", "/studies/1.2.3/metadata"):
        got, head = http.get(path), http.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        for name in ("content-type", "etag", "vary"):
            found, expected = head.headers.get(name, ""), got.headers.get(name, "")
            assert found.partition("boundary")[0] == expected.partition("boundary")[0], (path, name)


def test_what_a_client_has_is_not_sent_again(archive: Archive, http: httpx.Client) -> None:
    for path in retrievable(archive):
        got = http.get(path)
        tag = got.headers["etag"]
        again = http.get(path, headers={"If-None-Match": f'"other", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), path
        assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        assert got.headers["cache-control"] == "no-store"
    assert "etag" not in http.get("/studies").headers


def test_tags_differ_by_what_is_asked_for(archive: Archive, http: httpx.Client) -> None:
    path = f"{instance_path(archive.ct[0])}/rendered"
    answers = [
        http.get(path),
        http.get(path, params={"window": "40,400"}),
        http.get(path, headers={"Accept": "image/png"}),
        http.get(f"{instance_path(archive.ct[1])}/rendered"),
    ]
    assert len({answer.headers["etag"] for answer in answers}) == len(answers)


def test_browsers_may_keep_answers_only_if_the_settings_say_so(archive: Archive, open_http: httpx.Client) -> None:
    path = f"{instance_path(archive.ct[0])}/metadata"
    assert open_http.get(path).headers["cache-control"] == "private, no-cache"
    assert open_http.get("/studies").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("bytes=0-9", slice(0, 10)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None)),
     ("bytes=5-999999", slice(5, None)), ("bytes=3-3", slice(3, 4))],
)  # fmt: skip
def test_bulk_data_come_in_ranges(archive: Archive, http: httpx.Client, asked: str, expected: slice) -> None:
    for instance, path in ((archive.ct[0], "7FE00010"), (archive.multiframe, "54000100/2/54001010")):
        url = f"{instance_path(instance)}/bulkdata/{path}"
        whole = http.get(url)
        assert whole.headers["accept-ranges"] == "bytes"
        assert int(whole.headers["content-length"]) == len(whole.content)
        part = http.get(url, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, whole.content[expected])
        begin = range(len(whole.content))[expected].start
        last = begin + len(part.content) - 1
        assert part.headers["content-range"] == f"bytes {begin}-{last}/{len(whole.content)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "items=0-5", "bytes=-", "bytes=9-3", "bytes=" + "9" * 30 + "-"])
def test_other_ranges_are_answered_with_all_bytes(archive: Archive, http: httpx.Client, asked: str) -> None:
    url = f"{instance_path(archive.ct[0])}/bulkdata/7FE00010"
    assert http.get(url, headers={"Range": asked}).status_code == 200


def test_a_range_of_another_version_is_answered_with_all_bytes(archive: Archive, http: httpx.Client) -> None:
    """`series conflicts adopt` puts other bytes under the same address."""
    url = f"{instance_path(archive.ct[0])}/bulkdata/7FE00010"
    tag = http.get(url).headers["etag"]
    for if_range, status in ((tag, 206), ('"of-other-bytes"', 200), (f"W/{tag}", 200), ("x", 200)):
        answer = http.get(url, headers={"Range": "bytes=5-", "If-Range": if_range})
        assert (if_range, answer.status_code) == (if_range, status)


@pytest.mark.parametrize("path", ["%EF%BC%97FE00010", "54000100/%D9%A2/54001010", "54000100/+2/54001010"])
def test_a_path_of_bulk_data_has_plain_digits_only(archive: Archive, http: httpx.Client, path: str) -> None:
    """Other digits are numbers for Python too, and came into the header of a part, which has ASCII only."""
    accept = {"Accept": 'multipart/related; type="application/octet-stream"'}
    answer = http.get(f"{instance_path(archive.multiframe)}/bulkdata/{path}", headers=accept)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


def test_a_range_beyond_the_end_says_how_many_bytes_there_are(archive: Archive, http: httpx.Client) -> None:
    url = f"{instance_path(archive.ct[0])}/bulkdata/7FE00010"
    answer = http.get(url, headers={"Range": "bytes=99999999-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(archive.ct[0].dataset().PixelData)}"


def test_json_is_compressed_with_what_the_client_takes(archive: Archive, http: httpx.Client) -> None:
    path = f"{path_of(archive.ct)}/metadata"
    plain = http.get(path, headers={"Accept-Encoding": "identity"})
    for accepted, coding in (("gzip, zstd", "zstd"), ("gzip", "gzip"), ("zstd;q=0, gzip;q=0.5", "gzip"), ("br", "")):
        with http.stream("GET", path, headers={"Accept-Encoding": accepted}) as answer:
            raw = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding", "") == coding
        content = imagecodecs.zstd_decode(raw) if coding == "zstd" else raw
        content = imagecodecs.gzip_decode(raw) if coding == "gzip" else content
        assert json.loads(content) == plain.json()


def test_capabilities_are_told_as_wadl_and_json(archive: Archive, http: httpx.Client, open_http: httpx.Client) -> None:
    answer = http.request("OPTIONS", "/")
    assert answer.headers["content-type"] == "application/vnd.sun.wadl+xml"
    resources = ET.fromstring(answer.content)[0]
    assert resources.attrib["base"] == f"{archive.url}/dicom-web"
    names = {method.attrib.get("id") for method in resources.iter(f"{WADL}method")}
    assert {"SearchForStudies", "RetrieveStudy", "RetrieveFrames", "RetrieveRenderedFrame", "RetrieveBulkData"} <= names
    told = http.request("OPTIONS", "/", headers={"Accept": "application/json"}).json()
    by_path = {resource["path"]: resource for resource in told["resources"]}
    assert set(by_path["/studies"]["methods"]) == {"GET"}
    told = open_http.request("OPTIONS", "/", headers={"Accept": "application/json"}).json()
    assert set(told["resources"][[r["path"] for r in told["resources"]].index("/studies")]["methods"]) == {
        "GET",
        "POST",
    }
    assert http.request("OPTIONS", "/", headers={"Accept": "text/html"}).status_code == 406


def test_options_of_a_resource_says_what_it_takes(
    archive: Archive, http: httpx.Client, open_http: httpx.Client
) -> None:
    for path in ("/studies", f"{path_of(archive.ct)}/metadata", f"{instance_path(archive.ct[0])}/bulkdata/1/2/3"):
        assert http.request("OPTIONS", path).headers["allow"] == "GET, HEAD, OPTIONS"
    assert http.request("OPTIONS", "/nothing").headers["allow"] == "OPTIONS"
    assert open_http.request("OPTIONS", "/studies").headers["allow"] == "GET, HEAD, OPTIONS, POST"


def test_every_capability_has_a_route(archive: Archive, http: httpx.Client) -> None:
    ds = archive.ct[0].dataset()
    values = {"study": ds.StudyInstanceUID, "series": ds.SeriesInstanceUID, "instance": ds.SOPInstanceUID}
    told = http.request("OPTIONS", "/", headers={"Accept": "application/json"}).json()
    for resource in told["resources"]:
        path = resource["path"].format(**values, frames=1, path="7FE00010")
        for media_type in resource["methods"]["GET"]["returns"]:
            answer = http.get(path, headers={"Accept": media_type})
            assert answer.status_code == 200, (path, media_type)
            assert answer.headers["content-type"].partition(";")[0] == media_type.partition(";")[0]


def test_pages_of_named_sites_may_ask(archive: Archive, open_http: httpx.Client) -> None:
    preflight = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, accept",
    }
    answer = open_http.request("OPTIONS", "/studies", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "content-type" in answer.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in answer.headers
    got = open_http.get(f"{path_of(archive.ct)}/metadata", headers={"Origin": ORIGIN})
    assert got.headers["access-control-allow-origin"] == ORIGIN
    assert "ETag" in got.headers["access-control-expose-headers"]
    missing = open_http.get("/studies/1.2.3/metadata", headers={"Origin": ORIGIN})
    assert (missing.status_code, missing.headers["access-control-allow-origin"]) == (404, ORIGIN)


def test_other_sites_and_other_paths_are_closed(archive: Archive, http: httpx.Client, open_http: httpx.Client) -> None:
    other = {"Origin": "https://evil.example.org", "Access-Control-Request-Method": "GET"}
    assert open_http.request("OPTIONS", "/studies", headers=other).status_code == 400
    assert "access-control-allow-origin" not in open_http.get("/studies", headers=other).headers
    ours = {"Origin": ORIGIN}
    assert "access-control-allow-origin" not in http.get("/studies", headers=ours).headers, "off by default"
    root = str(open_http.base_url).removesuffix("/dicom-web/")
    for path in ("/health/live", "/metrics", "/api/studies"):
        answer = open_http.get(root + path, headers=ours)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers

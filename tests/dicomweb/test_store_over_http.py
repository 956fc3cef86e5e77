"""STOW-RS as a client meets it: what is stored, what is refused and why, and what a hostile body costs."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import httpx
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from dicom_node.store import Store
from tests.arrivals import dataset_bytes
from tests.dicomweb.serving import serve
from tests.factories import EncodedInstance, ct_series, encode
from tests.new_store import NewStore

DICOM = "application/dicom"
REFERENCED, FAILED, OTHER, REASON, WARNING = "00081199", "00081198", "0008119A", "00081197", "00081196"


@pytest.fixture(scope="module")
def store(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with new_store(tmp_path_factory.mktemp("stow")) as opened:
        yield opened


@pytest.fixture(scope="module")
def http(store: Store) -> Iterator[httpx.Client]:
    settings = {"stow": True, "max_request_bytes": 2**20, "max_store_requests": 2, "receive_timeout_s": 3.0}
    with (
        serve(store, max_object_bytes=200_000, **settings) as url,
        httpx.Client(base_url=f"{url}/dicom-web", trust_env=False, timeout=60) as client,
    ):
        yield client


def body_of(parts: Sequence[tuple[str, bytes]], boundary: str = "b0") -> bytes:
    """A multipart body of header text and content of each part."""
    made = b"".join(f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts)
    return made + f"--{boundary}--\r\n".encode()


def post(
    http: httpx.Client, parts: Sequence[tuple[str, bytes]], path: str = "/studies", kind: str = DICOM
) -> httpx.Response:
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary=b0'}
    return http.post(path, content=body_of(parts), headers=headers)


def files(instances: Sequence[EncodedInstance]) -> list[tuple[str, bytes]]:
    return [(f"Content-Type: {DICOM}", instance.part10) for instance in instances]


def items(answer: httpx.Response, tag: str) -> list[dict]:
    return answer.json().get(tag, {}).get("Value", [])


def reasons(answer: httpx.Response, tag: str, reason: str = REASON) -> list[int]:
    return [item[reason]["Value"][0] for item in items(answer, tag)]


def stored_bytes(store: Store, uid: str) -> bytes:
    (row,) = store.search.find_instances(sop_instance_uid=uid)
    return store.objects.read_dataset_bytes(row.digest)


def test_a_series_is_stored_byte_for_byte_and_found(store: Store, http: httpx.Client) -> None:
    series = ct_series(12, seed="stow")
    answer = post(http, files(series))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    assert answer.json()["00081190"]["Value"][0].endswith(f"/dicom-web/studies/{series.study_instance_uid}")
    assert [item["00081155"]["Value"][0] for item in items(answer, REFERENCED)] == [
        ds.SOPInstanceUID for ds in series.datasets()
    ]
    for instance in series:
        assert stored_bytes(store, instance.dataset().SOPInstanceUID) == dataset_bytes(instance.part10)
    assert http.get(items(answer, REFERENCED)[0]["00081190"]["Value"][0]).status_code == 200
    (row,) = store.series.list()[:1]
    assert (row.n_instances, row.n_dataset_bytes > 0) == (12, True)
    assert post(http, files(series)).status_code == 200, "the same bytes again"
    assert store.series.n_conflicts() == 0


def test_what_dicomweb_client_sends_is_stored(store: Store, http: httpx.Client) -> None:
    series = ct_series(2, seed="by-dicomweb-client", transfer_syntax_uid=JPEG2000Lossless)
    client = DICOMwebClient(str(http.base_url).rstrip("/"))
    answer = client.store_instances(series.datasets(), study_instance_uid=series.study_instance_uid)
    assert len(answer.ReferencedSOPSequence) == 2
    assert "FailedSOPSequence" not in answer
    (row, _) = store.search.find_instances(series_instance_uid=series.series_instance_uid)
    assert row.transfer_syntax_uid == JPEG2000Lossless


def test_what_is_no_dicom_is_named_and_the_rest_is_kept(store: Store, http: httpx.Client) -> None:
    (good,) = ct_series(1, seed="among-others")
    answer = post(
        http,
        [
            (f"Content-Type: {DICOM}\r\nContent-Location: scans/notes.txt", b"hello"),
            *files([good]),
            ("Content-Type: text/plain", b"\r\n--b\r\n not DICOM"),
            (f"Content-Type: {DICOM}", good.part10[:150]),
            (f"Content-Type: {DICOM}", bytes(128) + b"DICM" + bytes(200)),
        ],
    )
    assert answer.status_code == 202
    assert len(items(answer, REFERENCED)) == 1
    assert reasons(answer, OTHER) == [0xC000] * 4
    comments = [item["00000902"]["Value"][0] for item in items(answer, OTHER)]
    assert comments[0].startswith("part 1 (notes.txt): no DICOM file")
    assert comments[1].startswith("part 3: text/plain, not application/dicom")
    assert stored_bytes(store, good.dataset().SOPInstanceUID) == dataset_bytes(good.part10)


def test_each_failure_has_its_reason(http: httpx.Client) -> None:
    def changed(seed: str, **values: object) -> bytes:
        ds = ct_series(1, seed=seed).datasets()[0]
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        return encode(ds).part10

    def announced(seed: str, **values: object) -> bytes:
        ds = ct_series(1, seed=seed).datasets()[0]
        encoded = encode(ds).part10
        old, new = str(ds.file_meta.MediaStorageSOPInstanceUID), values["uid"]
        return encoded.replace(old.encode(), str(new).ljust(len(old), "\0").encode(), 1)

    dicomdir = changed("dicomdir", SOPClassUID="1.2.840.10008.1.3.10")
    answer = post(
        http,
        [
            (f"Content-Type: {DICOM}", dicomdir),
            (f"Content-Type: {DICOM}", announced("other-uid", uid="1.2.3")),
            (f"Content-Type: {DICOM}", changed("no-study", StudyInstanceUID="")),
            (f"Content-Type: {DICOM}", changed("large", PixelData=bytes(220_000))),
        ],
    )
    assert answer.status_code == 409
    assert reasons(answer, FAILED) == [0x0122, 0xA900, 0xC000, 0xC001]
    assert REFERENCED not in answer.json()


def test_an_instance_of_another_study_than_the_path_is_refused(store: Store, http: httpx.Client) -> None:
    ours, theirs = ct_series(1, seed="ours"), ct_series(1, seed="theirs")
    answer = post(http, files([*ours, *theirs]), f"/studies/{ours.study_instance_uid}")
    assert answer.status_code == 202
    assert reasons(answer, FAILED) == [0xA900]
    assert store.search.find_instances(study_instance_uid=theirs.study_instance_uid) == ()


def test_other_content_under_a_uid_is_set_aside_with_a_warning(store: Store, http: httpx.Client) -> None:
    ds = ct_series(1, seed="conflict").datasets()[0]
    first = encode(ds)
    ds.PixelData = bytes(len(ds.PixelData))
    before = store.series.n_conflicts()
    answer = post(http, files([first, encode(ds)]))
    assert answer.status_code == 202
    assert [item.get(WARNING, {}).get("Value") for item in items(answer, REFERENCED)] == [None, [0xB000]]
    assert store.series.n_conflicts() == before + 1
    assert stored_bytes(store, ds.SOPInstanceUID) == dataset_bytes(first.part10)


@pytest.mark.parametrize(
    ("content_type", "content", "status", "code"),
    [
        ("text/plain", b"x", 415, "unsupported-media-type"),
        ('multipart/related; type="text/html"; boundary=b0', b"x", 415, "unsupported-media-type"),
        (f'multipart/related; type="{DICOM}"', b"x", 400, "bad-request"),
        (f'multipart/related; type="{DICOM}"; boundary=b0', b"x", 400, "malformed-body"),
        (f'multipart/related; type="{DICOM}"; boundary=b0', b"--b0--", 400, "malformed-body"),
        (f'multipart/related; type="{DICOM}"; boundary=b0', b"--b0\r\n" + b"a" * 9000, 400, "malformed-body"),
        (f'multipart/related; type="{DICOM}"; boundary=b0', b"y" * 70_000, 400, "malformed-body"),
        (f'multipart/related; type="{DICOM}"; boundary="b0', b"x", 400, "bad-request"),
    ],
)
def test_a_request_that_is_no_store_request_is_a_problem(
    http: httpx.Client, content_type: str, content: bytes, status: int, code: str
) -> None:
    answer = http.post("/studies", content=content, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_body_that_ends_too_early_keeps_what_was_complete(store: Store, http: httpx.Client) -> None:
    first, second = ct_series(2, seed="cut-short")
    body = body_of(files([first, second]))[:-200]
    answer = http.post(
        "/studies", content=body, headers={"Content-Type": f'multipart/related; type="{DICOM}"; boundary=b0'}
    )
    assert answer.status_code == 202
    assert len(items(answer, REFERENCED)) == len(items(answer, FAILED)) == 1
    assert store.search.find_instances(sop_instance_uid=second.dataset().SOPInstanceUID) == ()


def test_a_body_beyond_the_limit_is_refused(http: httpx.Client) -> None:
    headers = {"Content-Type": f'multipart/related; type="{DICOM}"; boundary=b0'}
    part = f"--b0\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    answer = http.post("/studies", content=iter([part, *_zeros(3 * 2**19)]), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


def _zeros(n_bytes: int) -> Iterator[bytes]:
    for _ in range(n_bytes // 2**16):
        yield bytes(2**16)


def test_one_instance_may_be_the_whole_body(store: Store, http: httpx.Client) -> None:
    (instance,) = ct_series(1, seed="single")
    answer = http.post("/studies", content=instance.part10, headers={"Content-Type": DICOM})
    assert answer.status_code == 200
    assert stored_bytes(store, instance.dataset().SOPInstanceUID) == dataset_bytes(instance.part10)


def test_a_client_that_stops_sending_is_told_so(http: httpx.Client) -> None:
    with socket.create_connection((http.base_url.host, http.base_url.port), timeout=30) as client:
        client.sendall(
            b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            b'Content-Type: multipart/related; type="application/dicom"; boundary=b0\r\n\r\n--b0\r\n'
        )
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_more_requests_than_allowed_are_answered_503(http: httpx.Client) -> None:
    head = (
        b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        b'Content-Type: multipart/related; type="application/dicom"; boundary=b0\r\n\r\n'
    )
    address = (http.base_url.host, http.base_url.port)
    with ExitStack() as opened:
        clients = [opened.enter_context(socket.create_connection(address, timeout=30)) for _ in range(3)]
        for client in clients:
            client.sendall(head)
        (first, *_), _, _ = select.select(clients, [], [], 2.5)  # the other two are ended after 3 s
        answer = first.recv(4096)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5" in answer.lower()


def test_storing_is_off_unless_it_is_switched_on(store: Store) -> None:
    (instance,) = ct_series(1, seed="off")
    with serve(store) as url:
        answer = httpx.post(f"{url}/dicom-web/studies", content=instance.part10, headers={"Content-Type": DICOM})
    assert answer.status_code == 405
    assert store.search.find_instances(sop_instance_uid=instance.dataset().SOPInstanceUID) == ()


def json_parts(ds: object, bulk: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [("Content-Type: application/dicom+json", json.dumps(ds).encode()), *bulk.items()]


def test_dicom_json_with_bulk_data_becomes_an_instance(store: Store, http: httpx.Client) -> None:
    ds = ct_series(1, seed="json").datasets()[0]
    ds.PatientName = "Müller^Jörg"
    ds.SpecificCharacterSet = "ISO_IR 192"
    pixels = ds.PixelData
    members = ds.to_json_dict(1024, lambda element: f"bulk/{element.tag}")
    members["7FE00010"] = {"vr": "OW", "BulkDataURI": "bulk/pixels"}
    answer = post(
        http,
        json_parts([members], {"Content-Type: application/octet-stream\r\nContent-Location: bulk/pixels": pixels}),
        kind="application/dicom+json",
    )
    assert answer.status_code == 200, answer.text
    (row,) = store.search.find_instances(sop_instance_uid=ds.SOPInstanceUID)
    assert row.transfer_syntax_uid == ExplicitVRLittleEndian
    with store.objects.open(row.digest) as file:
        found = dcmread(file)
    assert found == ds
    assert found.PixelData == pixels


def test_compressed_frames_come_with_dicom_json(store: Store, http: httpx.Client) -> None:
    (instance,) = ct_series(1, seed="json-j2k", transfer_syntax_uid=JPEG2000Lossless)
    ds = instance.dataset()
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    expected = ds.pixel_array
    del ds.PixelData
    members = ds.to_json_dict()
    members["7FE00010"] = {"vr": "OB", "BulkDataURI": "f"}
    answer = post(
        http,
        json_parts(members, {"Content-Type: image/jp2\r\nContent-Location: f": frame}),
        kind="application/dicom+json",
    )
    assert answer.status_code == 200, answer.text
    (row,) = store.search.find_instances(sop_instance_uid=ds.SOPInstanceUID)
    assert row.transfer_syntax_uid == JPEG2000Lossless
    with store.objects.open(row.digest) as file:
        assert (dcmread(file).pixel_array == expected).all()


@pytest.mark.parametrize(
    "members",
    [
        [1], [{"00080018": 5}], [{"x": {}}], "no", [[]], [{"00100010": {"vr": "PN", "Value": [[[3]]]}}],
        [{"00100010": {"vr": ["PN"]}}], [{"00100010": {"vr": "\ud800", "Value": [{}]}}],
        [{"00100010": {"vr": "PN", "Value": ["Doe^Jane"]}}],
    ],
)  # fmt: skip
def test_json_that_is_no_instance_is_refused(
    http: httpx.Client, members: object, caplog: pytest.LogCaptureFixture
) -> None:
    answer = post(http, json_parts(members, {}), kind="application/dicom+json")
    assert answer.status_code == 409, answer.text
    assert reasons(answer, OTHER) == [0xC000]
    assert "Doe" not in caplog.text


def test_one_answer_is_bounded_however_many_instances_json_claims_to_be(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.dicomweb.storing.json_documents.MAX_DOCUMENTS", 3)
    parts = [*json_parts([1] * 2, {}), *json_parts([1] * 100, {})]
    answer = post(http, parts, kind="application/dicom+json")
    assert answer.status_code == 409
    assert len(items(answer, OTHER)) == 4
    assert "more than 3 instances" in items(answer, OTHER)[3]["00000902"]["Value"][0]


def test_bulk_data_that_are_not_in_the_request_are_never_fetched(http: httpx.Client) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.5)
    ds = ct_series(1, seed="fetch").datasets()[0]
    del ds.PixelData
    members = ds.to_json_dict()
    members["7FE00010"] = {"vr": "OW", "BulkDataURI": f"http://127.0.0.1:{listener.getsockname()[1]}/x"}
    answer = post(http, json_parts([members], {}), kind="application/dicom+json")
    assert answer.status_code == 409
    assert "bulk data missing" in items(answer, OTHER)[0]["00000902"]["Value"][0]
    with listener, pytest.raises(TimeoutError):
        listener.accept()

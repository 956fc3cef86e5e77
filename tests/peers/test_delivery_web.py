"""Results go to peers by STOW-RS: what arrives, and what each answer means for trying again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from dicom_node.failures import ErrorKind, classify
from dicom_node.peers import check_peer, deliver
from dicom_node.peers.stow import MAX_OBJECTS_PER_REQUEST
from dicom_node.settings import DicomwebPeer
from tests.factories import ct_series
from tests.peer_servers import free_port, start_orthanc
from tests.peers.objects import to_send

pytestmark = pytest.mark.usefixtures("no_proxy")


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class CannedServer(ThreadingHTTPServer):
    """Answers every request with one status and body, and remembers what came."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _CannedHandler)
        self.status = status
        self.body = body
        self.requests: list[tuple[dict[str, str], bytes]] = []


class _CannedHandler(BaseHTTPRequestHandler):
    server: CannedServer

    def do_POST(self) -> None:
        received = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((dict(self.headers), received))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


@contextmanager
def canned_peer(status: int, body: bytes = b"", **options: Any) -> Iterator[tuple[DicomwebPeer, CannedServer]]:
    with CannedServer(status, body) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            port = server.server_address[1]
            yield DicomwebPeer(name="web", url=f"http://127.0.0.1:{port}/dicom-web", **options), server
        finally:
            server.shutdown()
            thread.join()


def answer(stored: list[str] = [], failed: dict[str, int] | None = None) -> bytes:  # noqa: B006 - never changed
    def item(uid: str, **reason: Any) -> dict[str, Any]:
        return {"00081155": {"vr": "UI", "Value": [uid]}, **reason}

    reasons = {uid: {"00081197": {"vr": "US", "Value": [number]}} for uid, number in (failed or {}).items()}
    return json.dumps(
        {
            "00081199": {"vr": "SQ", "Value": [item(uid) for uid in stored]},
            "00081198": {"vr": "SQ", "Value": [item(uid, **reason) for uid, reason in reasons.items()]},
        }
    ).encode()


@pytest.mark.peers
def test_orthanc_gets_the_bytes_of_what_is_sent(tmp_path: Path) -> None:
    series = ct_series(n_slices=MAX_OBJECTS_PER_REQUEST + 5, rows=32)  # two requests
    with start_orthanc(tmp_path) as orthanc:
        peer = DicomwebPeer(name="orthanc", url=orthanc.dicomweb_url)
        outcomes = deliver(peer, to_send(series), calling_ae_title="NODE")
        again = deliver(peer, to_send(series[:2]), calling_ae_title="NODE")
        assert check_peer(peer, calling_ae_title="NODE") is None
        files = {}
        with httpx.Client(base_url=orthanc.url, timeout=60) as client:
            for instance in client.get("/instances?expand").json():
                part10 = client.get(f"/instances/{instance['ID']}/file").content
                files[instance["MainDicomTags"]["SOPInstanceUID"]] = part10
    assert all(outcome.is_delivered for outcome in (*outcomes, *again))
    assert files == {instance.dataset().SOPInstanceUID: instance.part10 for instance in series}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ErrorKind.REFUSED),
        (401, ErrorKind.TRANSIENT),
        (403, ErrorKind.TRANSIENT),
        (404, ErrorKind.TRANSIENT),
        (409, ErrorKind.REFUSED),
        (413, ErrorKind.REFUSED),
        (415, ErrorKind.REFUSED),
        (429, ErrorKind.TRANSIENT),
        (301, ErrorKind.REFUSED),
        (500, ErrorKind.TRANSIENT),
        (503, ErrorKind.TRANSIENT),
    ],
)
def test_an_http_status_decides_whether_to_try_again(status: int, kind: ErrorKind) -> None:
    with canned_peer(status, b"some words with a patient's name") as (peer, _):
        (outcome,) = deliver(peer, to_send(ct_series(n_slices=1, rows=16)), calling_ae_title="NODE")
    assert outcome.error is not None
    assert classify(outcome.error) is kind
    assert f"HTTP {status}" in str(outcome.error)
    assert "patient" not in str(outcome.error)


def test_each_object_has_its_own_outcome() -> None:
    objects = to_send(ct_series(n_slices=4, rows=16))
    stored, full, broken, unnamed = [each.sop_instance_uid for each in objects]
    with canned_peer(202, answer([stored], {full: 0xA700, broken: 0xC000})) as (peer, _):
        outcomes = deliver(peer, objects, calling_ae_title="NODE")
    found = {outcome.sop_instance_uid: outcome.error and outcome.error.code for outcome in outcomes}
    assert found == {
        stored: None, full: "store-failed-for-now", broken: "store-refused", unnamed: "store-unconfirmed",
    }  # fmt: skip


def test_a_conflict_that_names_its_objects_is_read() -> None:
    (to_fail,) = objects = to_send(ct_series(n_slices=1, rows=16))
    with canned_peer(409, answer(failed={to_fail.sop_instance_uid: 0xA700})) as (peer, _):
        (outcome,) = deliver(peer, objects, calling_ae_title="NODE")
    assert outcome.error is not None
    assert outcome.error.code == "store-failed-for-now"


@pytest.mark.parametrize(
    ("body", "is_delivered"),
    [
        (b"", True),
        (b"<xml/>", True),
        (b"[]", True),
        (b'{"00081198": {"vr": "SQ"}}', True),
        (b'{"00081198": null, "00081199": 7}', True),
        (answer(["2.25.999"]), False),
        (b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [49152]}}]}}', False),
        (b'{"00081198": {"vr": "SQ", "Value": [null]}}', False),
    ],
)
def test_a_200_means_stored_unless_it_names_others(body: bytes, is_delivered: bool) -> None:
    with canned_peer(200, body) as (peer, _):
        (outcome,) = deliver(peer, to_send(ct_series(n_slices=1, rows=16)), calling_ae_title="NODE")
    assert outcome.is_delivered is is_delivered


def test_a_failure_without_a_uid_hides_no_other_failure() -> None:
    (refused,) = objects = to_send(ct_series(n_slices=1, rows=16))
    answered = json.loads(answer(failed={refused.sop_instance_uid: 0xC000}))
    answered["00081198"]["Value"].insert(0, {"00081197": {"vr": "US", "Value": [0xC000]}})
    with canned_peer(200, json.dumps(answered).encode()) as (peer, _):
        (outcome,) = deliver(peer, objects, calling_ae_title="NODE")
    assert outcome.error is not None
    assert outcome.error.code == "store-refused"


def test_the_request_is_multipart_with_a_length_and_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_TOKEN", "secret")
    series = ct_series(n_slices=2, rows=16)
    with canned_peer(200, token_env="ARCHIVE_TOKEN") as (peer, server):
        deliver(peer, to_send(series), calling_ae_title="NODE")
    ((headers, body),) = server.requests
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
    boundary = headers["Content-Type"].rpartition("=")[2].encode()
    parts = body.split(b"--" + boundary)
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    assert [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:-1]] == [
        instance.part10 for instance in series
    ]


def test_a_token_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHIVE_TOKEN", raising=False)
    peer = DicomwebPeer(name="web", url="http://127.0.0.1:1/", token_env="ARCHIVE_TOKEN")
    (outcome,) = deliver(peer, to_send(ct_series(n_slices=1, rows=16)), calling_ae_title="NODE")
    assert outcome.error is not None
    assert "ARCHIVE_TOKEN is not set" in str(outcome.error)


def test_a_peer_that_is_not_there_is_tried_again() -> None:
    peer = DicomwebPeer(name="gone", url=f"http://127.0.0.1:{free_port()}/dicom-web")
    (outcome,) = deliver(peer, to_send(ct_series(n_slices=1, rows=16)), calling_ae_title="NODE")
    assert outcome.error is not None
    assert (classify(outcome.error), outcome.error.code) == (ErrorKind.TRANSIENT, "peer-unreachable")
    assert check_peer(peer, calling_ae_title="NODE") is not None


def test_credentials_in_a_url_are_not_shown() -> None:
    with canned_peer(503) as (peer, _):
        url = str(peer.url).replace("//", "//user:secret@")
        (outcome,) = deliver(
            DicomwebPeer(name="archive", kind="dicomweb", url=url), to_send(ct_series(1)), calling_ae_title="NODE"
        )
    assert "HTTP 503 from http://127.0.0.1" in str(outcome.error)
    assert "secret" not in str(outcome.error)


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), ("no certificate", "holds no certificate")])
def test_certificates_that_cannot_be_read_are_named_and_it_is_tried_again(
    tmp_path: Path, content: str | None, says: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    peer = DicomwebPeer(name="archive", kind="dicomweb", url="https://127.0.0.1:1/", ca_file=path)
    (outcome,) = deliver(peer, to_send(ct_series(1)), calling_ae_title="NODE")
    assert f"ca_file: {path}" in str(outcome.error)
    assert says in str(outcome.error)
    assert outcome.error is not None
    assert classify(outcome.error) is ErrorKind.TRANSIENT

"""Every route that changes something × bodies that are too long or never end; every caller × too many requests."""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dicom_node.access.gatekeeper import COOKIE
from dicom_node.access.pace import Pace
from dicom_node.access.roles import Right, Role
from dicom_node.access.table import RIGHTS_OF_ROUTES
from dicom_node.page import forms
from tests.access.conftest import SETTINGS, LockedNode, locked_node
from tests.access.test_every_route import VALUES, ask
from tests.access.test_signing_in import sign_in
from tests.new_store import NewStore
from tests.page.serving import Reader, serve_page

LONGEST = 2**20  # of what may be long: the smallest value of web.max_request_bytes
PATIENCE_S = 0.5
BRING_FILES = ("POST /upload", "POST /api/upload", "POST /dicom-web/studies", "POST /dicom-web/studies/{study}")
# Each route is of one of three kinds: it takes files, it takes a form or a JSON object, or it takes no body.
WRITING = sorted(line for line in RIGHTS_OF_ROUTES if not line.startswith(("GET ", "* ")))
TAKING = [line for line in WRITING if line.startswith("POST ")]
PER_MINUTE = 60


@pytest.fixture(scope="module")
def node(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockedNode]:
    limits = {"max_request_bytes": LONGEST, "receive_timeout_s": PATIENCE_S}
    settings = {"web": {**SETTINGS["web"], **limits}}
    with new_store(tmp_path_factory.mktemp("limits")) as store, serve_page(store, settings) as url:
        yield locked_node(url, store)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "BODY_TIMEOUT_S", PATIENCE_S)


def path_of(line: str) -> str:
    return re.sub(r"{(\w+)(:path)?}", lambda match: VALUES[match[1]], line.partition(" ")[2])


def headers_for(line: str, node: LockedNode) -> dict[str, str]:
    if line.startswith("POST /dicom-web"):
        kind = 'multipart/related; type="application/dicom"; boundary=b'
    elif line.endswith("upload"):
        kind = "application/zip" if "/api/" in line else "multipart/form-data; boundary=b"
    else:
        kind = "application/json" if "/api/" in line else "application/x-www-form-urlencoded"
    return {"Authorization": f"Bearer {node.tokens['admin']}", "Content-Type": kind}


def knock(node: LockedNode, line: str, body: bytes, **more: str) -> tuple[int, float, bool]:
    """Send a request that stops after ``body``; return its status, the seconds until then, and if the node hung up."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", urlsplit(node.url).port), timeout=30) as peer:
        header = {"Host": "localhost", **headers_for(line, node), **more}
        lines = [
            f"{line.partition(' ')[0]} {path_of(line)} HTTP/1.1",
            *(f"{key}: {value}" for key, value in header.items()),
        ]
        peer.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = http.client.HTTPResponse(peer)
        answer.begin()
        answer.read()
        try:
            hung_up = peer.recv(1) == b""
        except OSError:
            hung_up = True
        return answer.status, time.monotonic() - began, hung_up


def test_every_route_that_takes_files_is_known() -> None:
    assert set(BRING_FILES) == {line for line in TAKING if RIGHTS_OF_ROUTES[line] is Right.STORE}


@pytest.mark.parametrize("line", TAKING)
def test_a_body_that_says_that_it_is_too_long_is_refused_at_once(node: LockedNode, line: str) -> None:
    longest = LONGEST if line in BRING_FILES else forms.MAX_BODY_BYTES
    status, after_s, hung_up = knock(node, line, b"", **{"Content-Length": str(longest + 1)})
    assert (status, hung_up) == (413, True)
    assert after_s < 10.0


@pytest.mark.parametrize("line", TAKING)
def test_a_body_that_turns_out_too_long_is_refused(node: LockedNode, line: str) -> None:
    longest = LONGEST if line in BRING_FILES else forms.MAX_BODY_BYTES
    name = b'Content-Disposition: form-data; name="other"\r\n' if line.endswith("upload") else b""
    body = b"--b\r\n" + name + b"Content-Type: application/dicom\r\n\r\n" + b"x" * (longest + 2**18)
    status, _, hung_up = knock(node, line, b"%x\r\n%b\r\n" % (len(body), body), **{"Transfer-Encoding": "chunked"})
    assert (status, hung_up) == (413, True)


@pytest.mark.parametrize("line", TAKING)
def test_a_body_that_never_ends_is_given_up(node: LockedNode, line: str) -> None:
    status, after_s, hung_up = knock(node, line, b"-", **{"Content-Length": "20"})
    assert (status, hung_up) == (408, True)
    assert PATIENCE_S <= after_s < 10.0


@pytest.mark.parametrize("line", sorted(set(WRITING) - set(TAKING)))
def test_where_no_body_is_taken_none_is_waited_for(node: LockedNode, line: str) -> None:
    status, after_s, _ = knock(node, line, b"-", **{"Content-Length": "100000000", "Connection": "close"})
    assert status in (403, 404)
    assert after_s < 10.0


@pytest.mark.parametrize("role", Role)
def test_a_caller_that_sends_too_many_requests_waits_and_others_do_not(
    new_store: NewStore, tmp_path_factory: pytest.TempPathFactory, role: Role
) -> None:
    settings = {"web": {**SETTINGS["web"], "max_requests_per_minute": PER_MINUTE}}
    lines = [line for line, right in RIGHTS_OF_ROUTES.items() if right is not Right.ANYONE]
    with new_store(tmp_path_factory.mktemp("pace")) as store, serve_page(store, settings) as url:
        node = locked_node(url, store)
        with node.client(role.value) as client:
            began = time.monotonic()
            while client.get("/metrics").status_code != 429:
                assert time.monotonic() - began < 60, "as many requests as it wants"
            for line in lines:  # whatever it may do otherwise
                answer = ask(client, line)
                if answer.status_code != 429:  # a second has passed: one more
                    answer = ask(client, line)
                assert (answer.status_code, "too-many-requests" in answer.text) == (429, True), line
                assert int(answer.headers["retry-after"]) == 1, line
        other = "admin" if role is not Role.ADMIN else "viewer"
        with node.client(other) as client:
            assert client.get("/metrics").status_code == 200
        with node.client() as client:
            assert client.get("/health/live").status_code == 200
        (entry,) = store.audit.list(action="too-many-requests", limit=100)
        assert entry.actor == f"the {role}"


def test_a_session_counts_as_its_person(new_store: NewStore, tmp_path: Path) -> None:
    settings = {"web": {**SETTINGS["web"], "max_requests_per_minute": PER_MINUTE}}
    with new_store(tmp_path) as store, serve_page(store, settings) as url:
        node = locked_node(url, store)
        with node.client("viewer") as client:
            for _ in range(PER_MINUTE):
                client.get("/metrics")
        with Reader(url) as reader:
            sign_in(reader, node.tokens["viewer"])
            assert COOKIE in reader.client.cookies
            answers = [reader.get("/studies") for _ in range(PER_MINUTE // 2)]  # in less than half a minute
            answer = next(answer for answer in answers if answer.status_code == 429)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert int(answer.headers["retry-after"]) == 1


def test_the_pace_is_that_of_the_settings() -> None:
    pace = Pace(120)
    assert [pace.wait_s("anna", 0.0) for _ in range(121)] == [0] * 120 + [1]
    assert pace.wait_s("bob", 0.0) == 0
    assert [pace.wait_s("anna", 2.0) for _ in range(5)] == [0, 0, 0, 0, 1], "two a second come back"
    assert [pace.wait_s("anna", 10_000.0) for _ in range(121)] == [0] * 120 + [1], "and not more than there were"

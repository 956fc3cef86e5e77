"""Clients that connect and give nothing: silent, slow, too many, or reading nothing."""

from __future__ import annotations

import logging
import re
import resource
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from dicom_node.dicomweb import http_server
from dicom_node.store import Store
from tests.arrivals import receive
from tests.dicomweb.serving import serve
from tests.factories import ct_series
from tests.new_store import NewStore
from tests.node_process import wait_for

MIB = 2**20


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as store:
        yield store


def connect(url: str, text: bytes = b"") -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(text)
    return connection


def closed_after_s(connection: socket.socket) -> float:
    """Seconds until the server closes a connection."""
    began_s = time.monotonic()
    try:
        while connection.recv(65536):
            continue
    except ConnectionResetError:
        pass
    return time.monotonic() - began_s


def receive_some(connection: socket.socket) -> bytes:
    """Next bytes; empty at the end, also if it comes as a reset."""
    try:
        return connection.recv(MIB)
    except ConnectionResetError:
        return b""


def drip_s(connection: socket.socket, *, at_most_s: float) -> float:
    """Seconds for which the server lets a client send a letter now and then."""
    began_s = time.monotonic()
    try:
        while time.monotonic() - began_s < at_most_s:
            connection.sendall(b"x")
            time.sleep(0.1)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return time.monotonic() - began_s


@pytest.mark.parametrize("text", [b"", b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Slow: "])
def test_a_connection_without_a_whole_request_is_closed(store: Store, text: bytes) -> None:
    with serve(store, header_timeout_s=0.6) as url, connect(url, text) as connection:
        assert 0.5 < closed_after_s(connection) < 30


def test_one_letter_now_and_then_does_not_keep_a_connection_open(store: Store) -> None:
    with serve(store, header_timeout_s=0.6) as url, connect(url, b"GET /") as connection:
        assert 0.5 < drip_s(connection, at_most_s=60) < 30


def test_a_body_that_never_ends_does_not_keep_a_connection_open(store: Store) -> None:
    head = b"GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    with serve(store, header_timeout_s=0.5, keep_alive_s=1) as url, connect(url, head) as connection:
        assert 1 < drip_s(connection, at_most_s=60) < 30


def test_a_connection_is_kept_for_the_next_request(store: Store) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    with serve(store, header_timeout_s=0.5, keep_alive_s=3) as url, connect(url) as connection:
        for _ in range(3):
            connection.sendall(request)
            answer = connection.recv(65536)
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.8)
        assert 0.5 < closed_after_s(connection) < 30


def test_no_answer_waits_for_an_acknowledgement(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    options = []
    take = http_server.BoundedProtocol.data_received

    def watch(self: http_server.BoundedProtocol, data: bytes) -> None:
        connection = self.transport.get_extra_info("socket")
        options.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        take(self, data)

    monkeypatch.setattr(http_server.BoundedProtocol, "data_received", watch)
    with serve(store) as url:
        assert httpx.get(f"{url}/health/live", trust_env=False).status_code == 200
    assert set(options) == {1}


def test_silent_connections_keep_nobody_out_and_are_one_line_in_the_log(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), serve(store, max_connections=20, header_timeout_s=30) as url:
        silent = [connect(url) for _ in range(200)]
        for _ in range(3):
            assert httpx.get(f"{url}/health/live", trust_env=False, timeout=60).status_code == 200
        time.sleep(0.7)
        for connection in silent:
            connection.close()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert re.match(r"connections closed: idle, closed for another one: [1-9][0-9]*$", lines[0])


def test_what_is_no_http_is_counted_not_logged_one_by_one(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), serve(store) as url:
        for _ in range(30):
            with connect(url, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n") as connection:
                assert connection.recv(100).startswith(b"HTTP/1.1 400")
        time.sleep(0.7)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def large_series(store: Store) -> str:
    """Receive one instance of 32 MiB and return its path."""
    rows = 16 * MIB // 1024
    series = ct_series(1, voxels_hu=np.zeros((1, rows, 1024), dtype=np.float32), rows=rows, columns=1024)
    receive(store, series)
    return f"/dicom-web/studies/{series.study_instance_uid}/series/{series.series_instance_uid}"


def test_clients_that_do_not_read_hold_little_memory_and_are_cut_off(store: Store) -> None:
    path = large_series(store)
    process = psutil.Process()
    with serve(store, send_timeout_s=4.0) as url:
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        before = process.memory_info().rss
        connections = [connect(url, request) for _ in range(20)]
        time.sleep(1.0)
        assert process.memory_info().rss - before < 64 * MIB  # of 640 that were asked for
        ends = {connection.getsockname() for connection in connections}
        assert n_open(process, ends) == 20
        wait_for("their end", lambda: n_open(process, ends) == 0)
        n_received = [sum(map(len, iter(partial(receive_some, connection), b""))) for connection in connections]
        for connection in connections:
            connection.close()
    assert max(n_received) < 16 * MIB


def n_open(process: psutil.Process, ends: set[tuple[str, int]]) -> int:
    """How many connections with these client ends the server has not closed."""
    connections = process.net_connections()
    return len([each for each in connections if each.raddr in ends and each.status == "ESTABLISHED"])


def test_no_more_connections_than_descriptors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limits = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    assert http_server._affordable_connections(400) == 400
    assert len(limits) == 1
    assert http_server._affordable_connections(1000) == 1000
    assert limits[-1] == (2128, 4096)
    assert http_server._affordable_connections(8000) == (4096 - 128) // 2
    assert "web.max_connections is 8000, but the limit of open files (ulimit -n) is 4096" in caplog.text

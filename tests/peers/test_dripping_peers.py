"""Peers that never fall silent and never finish: each request to them ends in bounded time and is tried again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from dicom_node.failures import ErrorKind, classify
from dicom_node.peers import check_peer, count_instances, deliver
from dicom_node.peers.download import download
from dicom_node.peers.errors import DeliveryError, DownloadFailedError
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.upper_layer.associate import Acceptance, decode_request, encode_acceptance
from dicom_node.upper_layer.pdu_stream import PduStream
from dicom_node.upper_layer.presentation import AnsweredContext
from tests.dimse.raw_peer import p_data
from tests.factories import ct_series
from tests.peers.objects import to_send

Serve = Callable[[socket.socket, threading.Event], None]
HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 100000\r\n\r\n"


@contextmanager
def serving(serve: Serve, *, receive_buffer: int | None = None) -> Iterator[int]:
    """A server on loopback that gives every connection to ``serve`` until the block ends; its port."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if receive_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listener.settimeout(0.1)

        def run() -> None:
            while not done.is_set():
                with suppress(TimeoutError), suppress(ConnectionError, BrokenPipeError):
                    connection, _ = listener.accept()
                    with connection:
                        serve(connection, done)

        server = threading.Thread(target=run)
        server.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            done.set()
            server.join()


def drip(connection: socket.socket, done: threading.Event, piece: bytes) -> None:
    while not done.wait(0.05):
        connection.sendall(piece)


def drip_headers(connection: socket.socket, done: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(connection, done, b"a")


def drip_body(connection: socket.socket, done: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(HEADERS)
    drip(connection, done, b" ")


def read_slowly(connection: socket.socket, done: threading.Event) -> None:
    while not done.wait(0.05):
        if not connection.recv(100):
            return


def web(port: int) -> DicomwebPeer:
    return DicomwebPeer(name="slow", url=f"http://127.0.0.1:{port}/dicom-web")


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("dicom_node.peers.qido.ANSWER_S", 0.5)
    for module in ("stow", "association", "download"):
        monkeypatch.setattr(f"dicom_node.peers.{module}.MIN_BYTES_PER_S", 1e9)
    monkeypatch.setattr("dicom_node.peers.download.TIMEOUT_S", 0.5)


def expect_timeout(error: DeliveryError | None, began: float) -> None:
    assert time.monotonic() - began < 30
    assert error is not None
    assert (classify(error), error.code) == (ErrorKind.TRANSIENT, "peer-timeout")


@pytest.mark.parametrize("serve", [drip_headers, drip_body])
def test_a_dicomweb_peer_that_drips_is_given_up(serve: Serve) -> None:
    (to_deliver,) = to_send(ct_series(n_slices=1, rows=16))
    with serving(serve) as port:
        began = time.monotonic()
        (outcome,) = deliver(web(port), [to_deliver], calling_ae_title="NODE", timeout_s=0.5)
        expect_timeout(outcome.error, began)
        began = time.monotonic()
        with pytest.raises(DeliveryError) as caught:
            count_instances(web(port), "1.2", "1.3", calling_ae_title="NODE", timeout_s=0.5)
        expect_timeout(caught.value, began)


def test_a_dicomweb_peer_that_drips_its_headers_fails_its_check() -> None:
    with serving(drip_headers) as port:
        began = time.monotonic()
        expect_timeout(check_peer(web(port), calling_ae_title="NODE", timeout_s=0.5), began)


def test_a_dicomweb_peer_that_reads_slowly_is_given_up() -> None:
    voxels_hu = np.zeros((1, 1024, 1024), np.float32)
    objects = to_send(ct_series(n_slices=1, rows=1024, columns=1024, voxels_hu=voxels_hu))
    with serving(read_slowly, receive_buffer=4096) as port:
        began = time.monotonic()
        (outcome,) = deliver(web(port), objects, calling_ae_title="NODE", timeout_s=0.5)
        expect_timeout(outcome.error, began)


def test_a_download_that_drips_is_given_up(tmp_path: Path) -> None:
    with serving(drip_body) as port:
        began = time.monotonic()
        with pytest.raises(DownloadFailedError, match="took too long"):
            download(f"http://127.0.0.1:{port}/model.zip", tmp_path / "model.zip", max_bytes=2**20)
    assert time.monotonic() - began < 30
    assert list(tmp_path.iterdir()) == []


def accept(connection: socket.socket) -> None:
    stream = PduStream(connection, max_pdu_bytes=16384, pdu_timeout_s=60)
    request = decode_request(stream.read())
    answers = tuple(AnsweredContext(each.context_id, 0, each.transfer_syntax_uids[0]) for each in request.contexts)
    stream.send(encode_acceptance(Acceptance("NODE", "PEER", answers, 16384)))


def drip_negotiation(connection: socket.socket, done: threading.Event) -> None:
    connection.sendall(b"\x02\x00\x00\x00\xff\x00")
    drip(connection, done, b"\x00")


def drip_empty_fragments(connection: socket.socket, done: threading.Event) -> None:
    accept(connection)
    drip(connection, done, p_data((1, 1, b"")))


def take_slowly(connection: socket.socket, done: threading.Event) -> None:
    accept(connection)
    read_slowly(connection, done)


@pytest.mark.parametrize("serve", [drip_negotiation, drip_empty_fragments, take_slowly])
def test_a_dimse_peer_that_drips_is_given_up(serve: Serve) -> None:
    voxels_hu = np.zeros((1, 1024, 1024), np.float32)
    objects = to_send(ct_series(n_slices=1, rows=1024, columns=1024, voxels_hu=voxels_hu))
    with serving(serve, receive_buffer=4096) as port:
        peer = DimsePeer(name="slow", ae_title="PEER", host="127.0.0.1", port=port)
        began = time.monotonic()
        (outcome,) = deliver(peer, objects, calling_ae_title="NODE", timeout_s=0.5)
        expect_timeout(outcome.error, began)


def test_a_dimse_peer_that_drips_empty_fragments_fails_its_check_and_its_count() -> None:
    with serving(drip_empty_fragments) as port:
        peer = DimsePeer(name="slow", ae_title="PEER", host="127.0.0.1", port=port)
        began = time.monotonic()
        expect_timeout(check_peer(peer, calling_ae_title="NODE", timeout_s=0.5), began)
        began = time.monotonic()
        with pytest.raises(DeliveryError) as caught:
            count_instances(peer, "1.2", "1.3", calling_ae_title="NODE", timeout_s=0.5)
        expect_timeout(caught.value, began)


def test_a_peer_that_speaks_tls_is_named() -> None:
    def alert(connection: socket.socket, _done: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(b"\x15\x03\x03\x00\x02\x02\x46")  # fatal, protocol_version (RFC 8446 6.2)

    with serving(alert) as port:
        peer = DimsePeer(name="tls", ae_title="PEER", host="127.0.0.1", port=port)
        error = check_peer(peer, calling_ae_title="NODE", timeout_s=60)
    assert error is not None
    assert "peer speaks TLS, but DICOM without TLS was expected here" in str(error)

"""Asking peers how many instances a series has: C-FIND and QIDO-RS, of real archives and of broken ones."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from dicom_node.failures import ErrorKind, classify
from dicom_node.peers import count_instances, deliver
from dicom_node.peers.errors import DeliveryError
from dicom_node.settings import DicomwebPeer, DimsePeer
from tests.factories import SyntheticSeries, ct_series
from tests.peer_servers import OrthancServer, start_dcmqrscp, start_orthanc
from tests.peers.objects import to_send

STUDY, SERIES = "1.2.3", "1.2.3.4"


def count(peer: DimsePeer | DicomwebPeer, series: SyntheticSeries, **options: float) -> int | None:
    return count_instances(
        peer, series.study_instance_uid, series.series_instance_uid, calling_ae_title="NODE", **options
    )


def dimse(server: object, **changes: object) -> DimsePeer:
    fields = {"name": "peer", "ae_title": server.ae_title, "host": server.host, "port": server.port}  # type: ignore[attr-defined]
    return DimsePeer.model_validate(fields | changes)


@pytest.fixture(scope="module")
def series() -> SyntheticSeries:
    return ct_series(n_slices=7, rows=8, columns=8)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, series: SyntheticSeries) -> Iterator[OrthancServer]:
    """Orthanc with the series and with another one of the study."""
    options = {"DicomAlwaysAllowFind": True}
    with start_orthanc(tmp_path_factory.mktemp("orthanc"), settings=options) as server:
        assert all(outcome.is_delivered for outcome in deliver(dimse(server), to_send(series), calling_ae_title="NODE"))
        yield server


@pytest.mark.peers
def test_orthanc_says_how_many_by_c_find(orthanc: OrthancServer, series: SyntheticSeries) -> None:
    assert count(dimse(orthanc), series) == 7
    assert count(dimse(orthanc), ct_series(n_slices=2, seed="unknown")) is None


@pytest.mark.peers
def test_orthanc_says_how_many_by_qido(orthanc: OrthancServer, series: SyntheticSeries) -> None:
    peer = DicomwebPeer(name="peer", kind="dicomweb", url=orthanc.dicomweb_url)
    assert count(peer, series) == 7
    assert count(peer, ct_series(n_slices=2, seed="unknown")) is None


@pytest.mark.peers
def test_dcmqrscp_says_how_many(tmp_path: Path, series: SyntheticSeries) -> None:
    with start_dcmqrscp(tmp_path) as server:
        assert all(outcome.is_delivered for outcome in deliver(dimse(server), to_send(series), calling_ae_title="NODE"))
        assert count(dimse(server), series) == 7
        assert count(dimse(server), ct_series(n_slices=2, seed="unknown")) is None


@contextmanager
def find_scp(answers: Callable[[Dataset], Iterable[tuple[int, Dataset | None]]]) -> Iterator[DimsePeer]:
    """An archive that answers C-FIND as the function says."""
    ae = AE(ae_title="PEER")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        for status, ds in answers(event.identifier):
            if status == 0xFF00 and ds is None:
                send_bare_match(event)
            else:
                yield status, ds

    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    try:
        yield DimsePeer(name="peer", ae_title="PEER", host="127.0.0.1", port=server.socket.getsockname()[1])
    finally:
        server.shutdown()


def send_bare_match(event: evt.Event) -> None:
    """Answer with a match that has no data set, which pynetdicom would refuse to encode."""
    answer = C_FIND()
    answer.MessageIDBeingRespondedTo = event.request.MessageID
    answer.AffectedSOPClassUID = event.request.AffectedSOPClassUID
    answer.Status = 0xFF00
    event.assoc.dimse.send_msg(answer, event.context.context_id)


def found(**values: object) -> tuple[int, Dataset]:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return 0xFF00, ds


def test_instances_are_counted_where_a_peer_does_not_count_them(series: SyntheticSeries) -> None:
    asked: list[Dataset] = []

    def answers(identifier: Dataset) -> list[tuple[int, Dataset | None]]:
        asked.append(identifier)
        if identifier.QueryRetrieveLevel == "SERIES":
            return [found(QueryRetrieveLevel="SERIES", SeriesInstanceUID=series.series_instance_uid)]
        return [found(QueryRetrieveLevel="IMAGE", SOPInstanceUID=f"1.2.{number}") for number in range(400)]

    with find_scp(answers) as peer:
        assert count(peer, series) == 400
    assert [identifier.QueryRetrieveLevel for identifier in asked] == ["SERIES", "IMAGE"]
    assert {identifier.StudyInstanceUID for identifier in asked} == {series.study_instance_uid}


def test_a_peer_that_answers_with_other_series_is_not_believed(series: SyntheticSeries) -> None:
    def answers(identifier: Dataset) -> list[tuple[int, Dataset | None]]:
        if identifier.QueryRetrieveLevel == "IMAGE":
            return []
        return [
            found(SeriesInstanceUID="1.9", NumberOfSeriesRelatedInstances=99),
            found(SeriesInstanceUID=series.series_instance_uid, NumberOfSeriesRelatedInstances=12),
        ]

    with find_scp(answers) as peer:
        assert count(peer, series) == 12


def test_several_numbers_are_no_answer(series: SyntheticSeries) -> None:
    answer = found(SeriesInstanceUID=series.series_instance_uid, NumberOfSeriesRelatedInstances=[12, 13])
    with find_scp(lambda _: [answer]) as peer, pytest.raises(DeliveryError) as caught:
        count(peer, series)
    assert caught.value.code == "query-unreadable"


# pynetdicom drops its socket unclosed when the peer has aborted while it answers.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_match_without_a_data_set_is_not_taken_for_the_end(series: SyntheticSeries) -> None:
    whole = found(SeriesInstanceUID=series.series_instance_uid, NumberOfSeriesRelatedInstances=12)
    with find_scp(lambda _: [(0xFF00, None), whole]) as peer, pytest.raises(DeliveryError) as caught:
        count(peer, series)
    assert caught.value.code == "query-unreadable"
    assert classify(caught.value) is ErrorKind.TRANSIENT


@pytest.mark.parametrize("status", [0xA700, 0xC001, 0xA900])
def test_a_query_that_fails_is_an_error_with_its_status(series: SyntheticSeries, status: int) -> None:
    with find_scp(lambda _: [(status, None)]) as peer, pytest.raises(DeliveryError) as caught:
        count(peer, series)
    assert caught.value.code == "query-failed"
    assert f"0x{status:04X}" in str(caught.value)


def test_a_peer_that_finds_nothing_by_c_find_says_so(series: SyntheticSeries) -> None:
    with pytest.raises(DeliveryError) as caught, storage_only() as peer:
        count(peer, series)
    assert caught.value.code == "context-refused"


@contextmanager
def storage_only() -> Iterator[DimsePeer]:
    ae = AE(ae_title="PEER")
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        yield DimsePeer(name="peer", ae_title="PEER", host="127.0.0.1", port=server.socket.getsockname()[1])
    finally:
        server.shutdown()


def test_a_peer_that_is_down_or_silent_is_a_transient_error_in_bounded_time(series: SyntheticSeries) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = DimsePeer(name="peer", ae_title="PEER", host="127.0.0.1", port=listener.getsockname()[1])
        with pytest.raises(DeliveryError) as silent:
            count(peer, series, timeout_s=0.3)
        web = DicomwebPeer(name="web", kind="dicomweb", url=f"http://127.0.0.1:{peer.port}/dicom-web")
        with pytest.raises(DeliveryError) as silent_web:
            count(web, series, timeout_s=0.3)
    with pytest.raises(DeliveryError) as down:
        count(peer, series)
    assert [error.value.code for error in (silent, silent_web, down)] == [
        "peer-timeout",
        "peer-timeout",
        "peer-unreachable",
    ]
    assert classify(down.value) is ErrorKind.TRANSIENT


@contextmanager
def qido(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[DicomwebPeer]:
    """A DICOMweb server that answers as the function of the path says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield DicomwebPeer(name="web", kind="dicomweb", url=f"http://127.0.0.1:{server.server_port}/dicom-web")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_instances_are_counted_page_by_page_where_qido_does_not_count_them(series: SyntheticSeries) -> None:
    one = {"0020000E": {"vr": "UI", "Value": [series.series_instance_uid]}}
    instances = [{"00080018": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in range(1, 6)]

    def answer(path: str) -> tuple[int, bytes]:
        if "/instances" not in path:
            return 200, json.dumps([one]).encode()
        offset = int(path.partition("offset=")[2].partition("&")[0])
        page = instances[offset : offset + 2]  # less than was asked for, as servers with a limit of their own do
        return (200, json.dumps(page).encode()) if page else (204, b"")

    with qido(answer) as peer:
        assert count(peer, series) == 5


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [(500, b"", "http-failed-for-now"), (400, b"", "http-refused"), (200, b"<html>", "query-unreadable")],
)
def test_what_qido_cannot_say_is_an_error_by_name(series: SyntheticSeries, status: int, body: bytes, code: str) -> None:
    with qido(lambda _: (status, body)) as peer, pytest.raises(DeliveryError) as caught:
        count(peer, series)
    assert caught.value.code == code


def test_a_peer_that_names_its_instances_too_slowly_is_not_waited_for(
    series: SyntheticSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.peers.count.ANSWER_S", 0.3)
    monkeypatch.setattr("dicom_node.peers.qido.ANSWER_S", 0.3)

    def slowly(identifier: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(40):
            time.sleep(0.1)
            yield found(SeriesInstanceUID=identifier.SeriesInstanceUID, SOPInstanceUID=f"1.2.{number}")

    with find_scp(slowly) as peer, pytest.raises(DeliveryError) as by_find:
        count(peer, series)
    one = {"0020000E": {"vr": "UI", "Value": [series.series_instance_uid]}}

    def page(path: str) -> tuple[int, bytes]:
        if "/instances" not in path:
            return 200, json.dumps([one]).encode()
        time.sleep(0.1)
        offset = int(path.partition("offset=")[2].partition("&")[0])
        return 200, json.dumps([{"00080018": {"vr": "UI", "Value": [f"1.2.{offset + 1}"]}}]).encode()

    with qido(page) as web, pytest.raises(DeliveryError) as by_qido:
        count(web, series)
    assert [error.value.code for error in (by_find, by_qido)] == ["peer-timeout", "peer-timeout"]


def test_an_answer_without_end_is_not_read_to_its_end(series: SyntheticSeries) -> None:
    with qido(lambda _: (200, b"[" + b" " * (5 * 2**20))) as peer, pytest.raises(DeliveryError) as caught:
        count(peer, series)
    assert caught.value.code == "query-unreadable"

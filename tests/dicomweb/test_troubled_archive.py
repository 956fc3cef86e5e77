"""What a client sees of hostile objects, lost files, a lost index, defects, and very large instances."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import NoReturn

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.dicomweb import parsing, transcoding
from dicom_node.dicomweb.multipart import CHUNK_BYTES
from dicom_node.errors import NodeError
from dicom_node.store import IndexUnavailableError, Store
from tests.arrivals import dataset_bytes, receive, receive_bytes
from tests.dicomweb.serving import serve
from tests.factories import EncodedInstance, SyntheticSeries, ct_series
from tests.new_store import NewStore

BYTES = {"Accept": 'multipart/related; type="application/octet-stream"'}


def url_of(url: str, ds: Dataset) -> str:
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    return f"{url}/dicom-web{path}"


def get(url: str, accept: str = "*/*") -> httpx.Response:
    return httpx.get(url, headers={"Accept": accept}, trust_env=False, timeout=60)


def refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.data
@pytest.mark.filterwarnings("ignore")  # pydicom warns of what is wrong with these files
@pytest.mark.parametrize("group", ["hostile_orthanc", "hostile_pydicom", "hostile_ruby", "hostile_bad_sequence"])
def test_real_hostile_objects_are_answered_without_a_server_error(
    real_series, new_store: NewStore, tmp_path: Path, group: str
) -> None:
    n_received = 0
    with new_store(tmp_path) as store, serve(store) as url:
        for path in sorted(p for p in real_series(group).rglob("*") if p.is_file()):
            instance = EncodedInstance(path.name, path.read_bytes())
            try:
                ds = dcmread(path, stop_before_pixels=True)
                receive(store, [instance])
            except (NodeError, InvalidDicomError, AttributeError, RecursionError, AssertionError):
                continue  # not an instance that the store takes
            n_received += 1
            (row,) = store.search.find_instances(sop_instance_uid=ds.SOPInstanceUID)
            instance_url = url_of(url, ds)
            metadata = get(f"{instance_url}/metadata")
            assert metadata.status_code == 200
            json.loads(metadata.content, parse_constant=refuse_constant)
            stored = get(instance_url, "application/dicom; transfer-syntax=*")
            assert stored.content.endswith(store.objects.read_dataset_bytes(row.digest))
            for part in ("frames/1", "bulkdata/7FE00010", ""):
                assert get(f"{instance_url}/{part}", BYTES["Accept"]).status_code < 500
    assert n_received > 0


def test_a_sequence_that_ends_within_an_item_is_no_error_of_the_archive(new_store: NewStore, tmp_path: Path) -> None:
    """pydicom raises OSError, as for a disk that cannot be read."""
    (instance, *_) = ct_series(1)
    encoded = dataset_bytes(instance.part10)
    cut = encoded[: encoded.index(b"\xe0\x7f\x10\x00")]
    cut += struct.pack("<HH2sHI", 0x0041, 0x1010, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0"
    with new_store(tmp_path) as store, serve(store) as url:
        receive_bytes(store, cut, instance.dataset())
        instance_url = url_of(url, instance.dataset())
        (members,) = get(f"{instance_url}/metadata").json()
        answer = get(f"{instance_url}/frames/1", BYTES["Accept"])
    assert members["00080018"]["Value"] == [str(instance.dataset().SOPInstanceUID)]
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable-object")
    assert "its dataset does not decode (OSError)" in answer.json()["detail"]


@pytest.fixture
def small(new_store: NewStore, tmp_path: Path) -> tuple[Store, SyntheticSeries]:
    series = ct_series(3)
    with new_store(tmp_path) as store:
        receive(store, series)
        yield store, series


def lose(store: Store, ds: Dataset) -> None:
    (row,) = store.search.find_instances(sop_instance_uid=ds.SOPInstanceUID)
    store.objects.remove(row.digest)


def test_a_lost_file_is_an_error_of_the_archive(small: tuple[Store, SyntheticSeries]) -> None:
    store, series = small
    ds = series[0].dataset()
    lose(store, ds)
    with serve(store) as url:
        answer = get(url_of(url, ds))
        assert (answer.status_code, answer.json()["code"]) == (500, "object-missing")


@pytest.mark.parametrize("resource", ["", "/frames/1", "/bulkdata/7FE00010", "/metadata"])
def test_a_file_of_another_length_is_an_error_of_the_archive_and_an_alarm(
    small: tuple[Store, SyntheticSeries], caplog: pytest.LogCaptureFixture, resource: str
) -> None:
    store, series = small
    ds = series[0].dataset()
    (row,) = store.search.find_instances(sop_instance_uid=ds.SOPInstanceUID)
    path = store.objects.path(row.digest)
    path.write_bytes(path.read_bytes()[:-2])
    with serve(store) as url:
        answer = get(url_of(url, ds) + resource)
    assert (answer.status_code, answer.json()["code"]) == (500, "object-damaged")
    assert str(store.data_dir) not in answer.text
    assert [record.levelname for record in caplog.records if "object-damaged" in str(vars(record))] == ["ERROR"]


def rot(store: Store, ds: Dataset) -> None:
    """Change one bit near the end of an instance's file."""
    (row,) = store.search.find_instances(sop_instance_uid=ds.SOPInstanceUID)
    path = store.objects.path(row.digest)
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if getattr(record, "code", "") == "object-damaged"]


@pytest.mark.parametrize("accept", ["*/*", "application/dicom; transfer-syntax=*"])
def test_a_changed_bit_is_an_error_of_the_archive_and_an_alarm(
    small: tuple[Store, SyntheticSeries], caplog: pytest.LogCaptureFixture, accept: str
) -> None:
    store, series = small
    ds = series[0].dataset()
    rot(store, ds)
    with serve(store) as url:
        answer = get(url_of(url, ds), accept)
        assert get(url_of(url, series[1].dataset()), accept).status_code == 200
    assert (answer.status_code, answer.json()["code"]) == (500, "object-damaged")
    assert [record.levelname for record in caplog.records if getattr(record, "code", "") == "object-damaged"] == [
        "ERROR"
    ]


def test_the_end_of_a_long_instance_that_has_changed_is_not_sent(
    new_store: NewStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (instance,) = ct_series(1, rows=800, columns=500)
    with new_store(tmp_path) as store, serve(store) as url:
        receive(store, [instance])
        rot(store, instance.dataset())
        with pytest.raises(httpx.RemoteProtocolError):
            get(url_of(url, instance.dataset()))
    (alarm,) = alarms(caplog)
    assert alarm.startswith("answer cut off: object ")
    assert str(tmp_path) not in caplog.text


def test_an_answer_that_cannot_be_finished_is_cut_off_not_ended(new_store: NewStore, tmp_path: Path) -> None:
    series = ct_series(3, rows=400, columns=500)
    with new_store(tmp_path) as store, serve(store) as url:
        receive(store, series)
        lose(store, series[2].dataset())
        with pytest.raises(httpx.RemoteProtocolError):
            get(f"{url}/dicom-web/studies/{series.study_instance_uid}")


def test_a_short_answer_that_cannot_be_finished_is_an_error(small: tuple[Store, SyntheticSeries]) -> None:
    store, series = small
    lose(store, series[2].dataset())
    with serve(store) as url:
        answer = get(f"{url}/dicom-web/studies/{series.study_instance_uid}")
    assert (answer.status_code, answer.json()["code"]) == (500, "object-missing")


def test_a_lost_index_is_unavailable_and_worth_another_try(
    small: tuple[Store, SyntheticSeries], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = small

    def fail(*_: object, **__: object) -> NoReturn:
        raise IndexUnavailableError("sqlite", "database is locked")

    monkeypatch.setattr(store.studies, "list", fail)
    monkeypatch.setattr(store.search, "search_studies", fail)
    with serve(store) as url:
        assert get(f"{url}/health/live").status_code == 200
        for path in ("/health/ready", "/dicom-web/studies"):
            answer = get(url + path)
            assert (answer.status_code, answer.json()["code"]) == (503, "index-unavailable")
            assert int(answer.headers["retry-after"]) > 0


def test_a_defect_is_told_to_the_log_and_not_to_the_client(
    small: tuple[Store, SyntheticSeries], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, _ = small

    def fail(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError("a detail for the log")

    monkeypatch.setattr(store.search, "search_series", fail)
    with serve(store) as url:
        answer = get(f"{url}/dicom-web/series")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "a detail" not in answer.text
    assert "a detail for the log" in caplog.text


def test_values_that_json_cannot_hold_are_left_out(new_store: NewStore, tmp_path: Path) -> None:
    def edit(ds: Dataset, _: int) -> None:
        ds.add_new("DiffusionBValue", "FD", float("nan"))

    series = ct_series(1, edit=edit)
    with new_store(tmp_path) as store, serve(store) as url:
        receive(store, series)
        answer = get(f"{url_of(url, series[0].dataset())}/metadata")
    (members,) = json.loads(answer.content, parse_constant=refuse_constant)
    assert members["00189087"] == {"vr": "FD"}


@pytest.mark.parametrize("part", ["", "/bulkdata/7FE00010"])
def test_a_large_instance_is_sent_in_little_memory(new_store: NewStore, tmp_path: Path, part: str) -> None:
    n_bytes = 16 * 2**20
    rows = n_bytes // 2 // 1024
    series = ct_series(1, voxels_hu=np.zeros((1, rows, 1024), dtype=np.float32), rows=rows, columns=1024)
    with new_store(tmp_path) as store, serve(store) as url:
        receive(store, series)
        instance_url = url_of(url, series[0].dataset()) + part
        tracemalloc.start()
        try:
            with httpx.stream("GET", instance_url, trust_env=False, timeout=60) as answer:
                n_received = sum(len(chunk) for chunk in answer.iter_raw())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert n_received >= n_bytes
    assert peak < 24 * CHUNK_BYTES


MB = 2**20


def receive_deflated_bomb(store: Store, tag: int) -> Dataset:
    """Receive a good deflated instance in which 64 MB of zeros were put before its pixel data."""
    (instance, *_) = ct_series(1, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
    plain = zlib.decompress(dataset_bytes(instance.part10), -zlib.MAX_WBITS)
    element = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"OB", 0, 64 * MB)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    parts = (plain[: plain.index(b"\xe0\x7f\x10\x00")], element, *[bytes(MB)] * 64)
    deflated = b"".join([*map(packer.compress, parts), packer.flush()])
    assert len(deflated) < MB
    receive_bytes(store, deflated, instance.dataset())
    return instance.dataset()


@pytest.mark.parametrize(
    ("tag", "statuses"),
    [(0x7FE00010, [200, 406, 404, 406]), (0x00431001, [200, 422, 422, 406])],
    ids=["pixel-data", "header"],
)
def test_a_deflated_bomb_takes_no_more_memory_than_allowed(
    new_store: NewStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tag: int,
    statuses: list[int],
) -> None:
    is_in_header = tag != 0x7FE00010
    monkeypatch.setattr(parsing, "MAX_HEADER_BYTES", 4 * MB)
    monkeypatch.setattr(transcoding, "MAX_INFLATED_BYTES", 4 * MB)
    with new_store(tmp_path) as store, serve(store, decoding_bytes=4 * MB) as url:
        instance_url = url_of(url, receive_deflated_bomb(store, tag))
        tracemalloc.start()
        try:
            (members,) = get(f"{instance_url}/metadata").json()
            answers = [get(f"{instance_url}{part}") for part in ("", "/frames/1", "/bulkdata/7FE00010")]
            answers += [get(instance_url, "application/dicom; transfer-syntax=1.2.840.10008.1.2.1")]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert get(instance_url, "application/dicom; transfer-syntax=*").status_code == 200
    assert peak < 16 * MB
    assert ("inflates to more than 4194304 bytes" in caplog.text) == is_in_header
    assert members["00080018"]["vr"] == "UI"
    assert ("00280101" in members) != is_in_header  # the index, which knows no Bits Stored, answers for the other
    assert [answer.status_code for answer in answers] == statuses

"""Decoding for clients: the right pixels, in bounded memory, and only as long as somebody waits for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.dicomweb import decoding_budget
from dicom_node.dicomweb.decoding import FrameDecoder
from dicom_node.dicomweb.decoding_budget import DecodingBudget
from dicom_node.dicomweb.errors import BusyError
from dicom_node.store import Store
from tests.arrivals import receive
from tests.dicomweb.serving import serve
from tests.factories import EncodedInstance, ct_series, encode
from tests.new_store import NewStore
from tests.node_process import wait_for, write_settings
from tests.peer_servers import free_port, run_tool

MIB = 2**20
SIDE = 1024
N_FRAMES = 48
FRAME_BYTES = 2 * SIDE * SIDE
EXPLICIT = {"Accept": f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"}
BYTES = {"Accept": 'multipart/related; type="application/octet-stream"'}


def rle_frame(high: int, low: int, n_pixels: int) -> bytes:
    """An RLE frame in which every 16-bit pixel is the same, as small as there can be (PS3.5 annex G)."""

    def segment(octet: int) -> bytes:
        return bytes([257 - 128, octet]) * (n_pixels // 128)

    first = segment(high)
    head = np.array([2, 64, 64 + len(first), *[0] * 13], "<u4").tobytes()
    return head + first + segment(low)


def rle_instance(*, n_frames: int = N_FRAMES, side: int = SIDE, claims: int | None = None) -> EncodedInstance:
    """Frames of one value each, their number; ``claims`` are the rows and columns that the header states."""
    ds = ct_series(1, seed=f"rle-{n_frames}-{side}-{claims}").datasets()[0]
    ds.file_meta.TransferSyntaxUID = RLELossless
    ds.Rows = ds.Columns = claims or side
    ds.NumberOfFrames = n_frames
    ds.PixelRepresentation = 0
    ds.PixelData = encapsulate([rle_frame(number >> 8, number & 255, side * side) for number in range(n_frames)])
    ds["PixelData"].is_undefined_length = True
    return encode(ds)


def url_of(url: str, instance: EncodedInstance) -> str:
    ds = instance.dataset()
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    return f"{url}/dicom-web{path}"


def get(url: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False, timeout=120)


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "data") as store:
        yield store


@pytest.mark.crash
def test_a_server_that_decodes_for_four_clients_stays_small(new_store: NewStore, tmp_path: Path) -> None:
    """A file of 1.6 MB with 100 MB of pixels; whoever decodes it whole for each client takes a gigabyte."""
    instance = rle_instance()
    assert len(instance.part10) < 2 * MIB
    port = free_port()
    settings = write_settings(
        tmp_path, {"web": {"port": port, "decoding_bytes": 32 * MIB}}, port=free_port(), web_port=port
    )
    with new_store(tmp_path / "data") as store:
        receive(store, [instance])
    command = [sys.executable, "-m", "dicom_node.cli", "web", "-c", str(settings)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    ) as server:
        try:
            wait_for("the web server", lambda: _is_live(url))
            assert get(url_of(url, instance) + "/frames/1", BYTES).status_code == 200
            before = psutil.Process(server.pid).memory_info().rss
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda _: get(url_of(url, instance), EXPLICIT), range(4)))
            peak = int(Path(f"/proc/{server.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
        finally:
            server.terminate()
    assert {answer.status_code for answer in answers} <= {200, 503}
    complete = [answer.content for answer in answers if answer.status_code == 200]
    assert complete
    ds = dcmread(BytesIO(complete[0]))
    assert [int(frame[5, 7]) for frame in ds.pixel_array] == list(range(N_FRAMES))
    assert peak - before < 32 * MIB + 48 * MIB


def _is_live(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", trust_env=False, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("part", ["", "/frames/" + ",".join(map(str, range(1, N_FRAMES + 1)))])
def test_it_stops_when_the_client_has_left(store: Store, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    n_decoded = 0
    decoded = FrameDecoder._decoded

    def counting(self: FrameDecoder, encoded: bytes) -> object:
        nonlocal n_decoded
        n_decoded += 1
        return decoded(self, encoded)

    monkeypatch.setattr(FrameDecoder, "_decoded", counting)
    budgets: list[DecodingBudget] = []
    make = DecodingBudget.__init__
    monkeypatch.setattr(
        DecodingBudget, "__init__", lambda self, n_bytes: (budgets.append(self), make(self, n_bytes))[1]
    )
    instance = rle_instance()
    receive(store, [instance])
    with serve(store) as url:
        headers = BYTES if part else EXPLICIT
        with httpx.stream("GET", url_of(url, instance) + part, headers=headers, trust_env=False, timeout=60) as answer:
            assert answer.status_code == 200
            next(answer.iter_raw())
        wait_for("the memory to be given back", lambda: budgets[0]._free_bytes == budgets[0].total_bytes, step_s=0.05)
        time.sleep(0.3)
    assert n_decoded < N_FRAMES / 2


def test_a_client_that_finds_no_memory_left_is_asked_to_come_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.dicomweb.frame_sources.FIRST_WAIT_S", 0.2)
    instance = rle_instance(n_frames=24)  # more than the buffers of both sockets take
    receive(store, [instance])
    with serve(store, decoding_bytes=7 * FRAME_BYTES) as url:
        frame_url = url_of(url, instance) + "/frames/1"
        many = ",".join(map(str, range(1, 25)))
        with httpx.stream("GET", f"{frame_url[:-1]}{many}", headers=BYTES, trust_env=False, timeout=60) as held:
            assert held.status_code == 200
            answer = get(frame_url, BYTES)
            assert (answer.status_code, answer.json()["code"]) == (503, "decoding-busy")
            assert int(answer.headers["retry-after"]) > 0
            assert get(frame_url, {"Accept": "*/*"}).status_code == 200  # as stored
        wait_for("room for another client", lambda: get(frame_url, BYTES).status_code == 200)


def test_few_wait_and_the_others_are_refused_at_once() -> None:
    budget = DecodingBudget(100)
    with budget.reserve(60), ThreadPoolExecutor(20) as pool:

        def ask(_: int) -> bool:
            try:
                with budget.reserve(50, wait_s=1.0):
                    return True
            except BusyError:
                return False

        began_s = time.monotonic()
        assert not any(pool.map(ask, range(20)))
        assert time.monotonic() - began_s < 10
    with pytest.raises(ValueError, match="decoding takes 101 bytes, at most 100"), budget.reserve(101):
        pass
    with budget.reserve(100) as reservation:
        reservation.shrink(10)
        with budget.reserve(90):
            pass
    assert budget._free_bytes == 100
    assert decoding_budget.MAX_WAITING < 20


@pytest.mark.parametrize(
    "claims",
    [2 * SIDE, 8000, 65535],  # more than RLE can hold in so few bytes, than may be decoded, than any memory has
)
def test_a_size_that_cannot_be_is_refused_before_anything_is_decoded(
    store: Store, monkeypatch: pytest.MonkeyPatch, claims: int
) -> None:
    monkeypatch.setattr("imagecodecs.dicomrle_decode", lambda *_, **__: pytest.fail("it was decoded"))
    instance = rle_instance(n_frames=1, claims=claims)
    receive(store, [instance])
    with serve(store) as url:
        for part, headers in (("", EXPLICIT), ("/frames/1", BYTES)):
            answer = get(url_of(url, instance) + part, headers)
            assert (answer.status_code, answer.json()["code"]) == (406, "not-acceptable")
            assert f"transfer-syntax={RLELossless}" in answer.json()["detail"]


def test_a_codestream_of_another_size_than_the_header_is_refused(store: Store) -> None:
    def lie(ds: Dataset) -> None:
        ds.Rows += 1

    instance = ct_series(1, transfer_syntax_uid=JPEGLSLossless)[0].edited(lie)
    receive(store, [instance])
    with serve(store) as url:
        assert get(url_of(url, instance), EXPLICIT).status_code == 406


def test_frames_that_are_missing_cut_the_answer_off(store: Store) -> None:
    instance = rle_instance(n_frames=3, side=512).edited(lambda ds: setattr(ds, "NumberOfFrames", 4))
    receive(store, [instance])
    with serve(store) as url, pytest.raises(httpx.RemoteProtocolError):
        get(url_of(url, instance), EXPLICIT)


@pytest.mark.parametrize("syntax", [RLELossless, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_what_follows_the_pixels_is_kept_and_odd_lengths_are_padded(store: Store, syntax: str) -> None:
    def edit(ds: Dataset, _: int) -> None:
        ds.Rows, ds.Columns, ds.NumberOfFrames = 3, 5, 3
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit, ds.PixelRepresentation = 7, 0
        ds.PixelData = bytes(range(45)) + b"\0"
        ds["PixelData"].VR = "OB"
        ds.private_block(0x7FE1, "VENDOR", create=True).add_new(0x10, "OB", b"after the pixels")

    (instance,) = ct_series(1, transfer_syntax_uid=syntax, edit=edit)
    receive(store, [instance])
    with serve(store) as url:
        ds = dcmread(BytesIO(get(url_of(url, instance), EXPLICIT).content))
        frames = get(url_of(url, instance) + "/frames/2,3", BYTES).content
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert ds.PixelData == bytes(range(45)) + b"\0"
    assert ds[0x7FE11010].value == b"after the pixels"
    assert frames.index(bytes(range(15, 30))) < frames.index(bytes(range(30, 45)))


@pytest.mark.peers
@pytest.mark.data
@pytest.mark.filterwarnings("ignore")
def test_jpeg_lossless_is_decoded_as_dcmtk_decodes_it(store: Store, real_series, tmp_path: Path) -> None:
    path = next(path for path in sorted(real_series("ct_localizer_ge_j70").rglob("*")) if path.is_file())
    instance = EncodedInstance("j70", path.read_bytes())
    receive(store, [instance])
    with serve(store) as url:
        found = dcmread(BytesIO(get(url_of(url, instance), EXPLICIT).content))
    assert run_tool("dcmdjpeg", path, tmp_path / "decoded.dcm").returncode == 0
    np.testing.assert_array_equal(found.pixel_array, dcmread(tmp_path / "decoded.dcm").pixel_array)

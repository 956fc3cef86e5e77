"""Deflated files: read as if they were not deflated, and never inflated further than asked for or allowed."""

from __future__ import annotations

import io
import tracemalloc
import zlib

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from part10.errors import InflatesTooLargeError, NotADatasetError, NotPart10Error
from part10.file_meta import dataset_offset, file_meta
from part10.inflate import CHUNK_BYTES, InflatedFile, bounded_for_pydicom, inflate, is_deflated
from tests.factories import ct_series

MB = 2**20
UIDS = {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "sop_instance_uid": "2.25.1"}
DEFLATED = file_meta(**UIDS, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
PLAIN = ct_series(1, rows=300, columns=700)[0].part10  # its dataset is longer than CHUNK_BYTES
DATASET = PLAIN[dataset_offset(PLAIN) :]


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def zeros(n_bytes: int) -> bytes:
    """That many zeros, deflated without holding them."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return b"".join([*(packer.compress(bytes(MB)) for _ in range(n_bytes // MB)), packer.flush()])


@pytest.mark.parametrize("n_start_bytes", [0, 100, 400, 10**6])
def test_a_deflated_file_reads_as_one_in_explicit_vr_little_endian(n_start_bytes: int) -> None:
    assert len(DATASET) > CHUNK_BYTES
    raw = DEFLATED + deflate(DATASET)
    file = InflatedFile(io.BytesIO(raw[n_start_bytes:]), start=raw[:n_start_bytes], max_bytes=len(DATASET))
    data = file.getvalue()
    assert data.endswith(DATASET)
    assert dataset_offset(data) == len(data) - len(DATASET) == len(DEFLATED)
    assert dcmread(io.BytesIO(data)).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_it_can_be_read_in_parts_from_anywhere() -> None:
    file = InflatedFile(io.BytesIO(DEFLATED + deflate(DATASET)), max_bytes=len(DATASET))
    begin = len(DEFLATED)
    assert file.seek(begin + 300_000) == begin + 300_000
    assert file.read(10) == DATASET[300_000:300_010]
    assert file.tell() == begin + 300_010
    assert file.seek(begin) == begin
    assert file.read(10) == DATASET[:10]
    assert file.seek(-4, io.SEEK_END) == begin + len(DATASET) - 4
    assert file.read() == DATASET[-4:]
    assert file.read(10) == file.read() == b""


def test_nothing_is_read_before_it_is_asked_for() -> None:
    raw = DEFLATED + deflate(DATASET)
    source = io.BytesIO(raw)
    start = source.read(len(DEFLATED) + 50)
    file = InflatedFile(source, start=start, max_bytes=1000)
    file.seek(0)
    file.seek(5, io.SEEK_CUR)
    assert source.tell() == len(start)
    assert file.read(0) == b""
    assert source.tell() == len(start)
    with pytest.raises(InflatesTooLargeError):  # only the end cannot be found without inflating
        file.seek(0, io.SEEK_END)
    with pytest.raises(InflatesTooLargeError):
        InflatedFile(io.BytesIO(raw), max_bytes=1000).seek(0, io.SEEK_END)


def test_a_read_of_nothing_is_no_read_of_everything() -> None:
    for data in (PLAIN, DEFLATED + deflate(DATASET)):
        file = bounded_for_pydicom(io.BytesIO(data), max_inflated_bytes=len(DATASET))
        assert file.read(0) == b""
        assert file.read(132)[128:] == b"DICM"
    assert len(file.read(len(DATASET))) == len(DATASET)
    with pytest.raises(NotADatasetError, match="deflated"):
        bounded_for_pydicom(io.BytesIO(PLAIN), max_inflated_bytes=MB).read()


def test_one_byte_more_than_allowed_is_refused() -> None:
    raw = DEFLATED + deflate(DATASET)
    assert len(InflatedFile(io.BytesIO(raw), max_bytes=len(DATASET)).read()) == len(DEFLATED) + len(DATASET)
    with pytest.raises(InflatesTooLargeError, match=f"inflates to more than {len(DATASET) - 1} bytes"):
        InflatedFile(io.BytesIO(raw), max_bytes=len(DATASET) - 1).read()


def test_a_bomb_costs_what_is_read_of_it_and_at_most_the_bound() -> None:
    raw = DEFLATED + zeros(64 * MB)
    assert len(raw) < MB
    tracemalloc.start()
    try:
        file = InflatedFile(io.BytesIO(raw), max_bytes=16 * MB)
        assert file.read(2000).endswith(bytes(1000))
        assert tracemalloc.get_traced_memory()[1] < 4 * MB
        with pytest.raises(InflatesTooLargeError, match="inflates to more than 16777216 bytes"):
            file.read(16 * MB + 1)
        assert tracemalloc.get_traced_memory()[1] < 4 * MB
        with pytest.raises(InflatesTooLargeError, match="inflates to more than 16777216 bytes"):
            file.read()
        assert tracemalloc.get_traced_memory()[1] < 24 * MB
    finally:
        tracemalloc.stop()


def test_a_stream_that_breaks_off_ends_there_and_a_damaged_one_is_refused() -> None:
    deflated = deflate(DATASET)
    cut = InflatedFile(io.BytesIO(DEFLATED + deflated[: len(deflated) // 2]), max_bytes=len(DATASET)).read()
    assert len(DEFLATED) + 1000 < len(cut) < len(DEFLATED) + len(DATASET)
    assert DATASET.startswith(cut[len(DEFLATED) :])
    with pytest.raises(NotADatasetError, match="its deflated dataset is damaged"):
        InflatedFile(io.BytesIO(DEFLATED + b"\xff" * 50), max_bytes=1000).read()
    with pytest.raises(NotADatasetError, match="its deflated dataset is damaged"):
        inflate(b"\xff" * 50, max_bytes=1000)
    with pytest.raises(NotPart10Error):
        InflatedFile(io.BytesIO(deflated), max_bytes=1000)


def test_the_file_meta_information_alone_says_whether_a_file_is_deflated() -> None:
    assert is_deflated(DEFLATED)
    plain = file_meta(**UIDS, transfer_syntax_uid=ExplicitVRLittleEndian)
    assert not is_deflated(plain)
    assert not is_deflated(plain + DeflatedExplicitVRLittleEndian.encode())  # as in (0008,3002)
    assert not is_deflated(DEFLATED[:100])
    assert not is_deflated(DEFLATED[132:])


def bomb_in_disorder(kind: str) -> bytes:
    """A bomb that our reading of the file meta information takes for undeflated, and pydicom for deflated."""
    bomb = zeros(32 * MB)
    syntax = DEFLATED[DEFLATED.index(b"\x02\x00\x10\x00") :][:30]
    assert syntax.rstrip(b"\0").endswith(DeflatedExplicitVRLittleEndian.encode())
    if kind == "no group length":
        return DEFLATED[:132] + DEFLATED[144:] + bomb
    if kind == "no preamble":
        return DEFLATED[132:] + bomb
    # The dataset begins with another Transfer Syntax UID, which overrides the one of the file meta information.
    return file_meta(**UIDS, transfer_syntax_uid=ExplicitVRLittleEndian) + syntax + bomb


@pytest.mark.parametrize("kind", ["no group length", "no preamble", "group 2 in the dataset"])
def test_pydicom_never_inflates_by_itself(kind: str) -> None:
    raw = bomb_in_disorder(kind)
    tracemalloc.start()
    try:
        with pytest.raises(NotADatasetError, match="deflated"):
            dcmread(bounded_for_pydicom(io.BytesIO(raw), max_inflated_bytes=MB), force=True)
        assert tracemalloc.get_traced_memory()[1] < 4 * MB
    finally:
        tracemalloc.stop()


def test_a_length_beyond_the_file_allocates_nothing(tmp_path) -> None:
    path = tmp_path / "lying.dcm"
    element = b"\xe0\x7f\x10\x00OW\0\0"
    true_length, claimed_length = (n_bytes.to_bytes(4, "little") for n_bytes in (300 * 700 * 2, 2**31))
    assert element + true_length in PLAIN
    path.write_bytes(PLAIN.replace(element + true_length, element + claimed_length))
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            dcmread(bounded_for_pydicom(file, max_inflated_bytes=MB))
        assert tracemalloc.get_traced_memory()[1] < 8 * MB
    finally:
        tracemalloc.stop()

"""Hostile and damaged files end in a named error, soon and within little memory."""

from __future__ import annotations

import contextlib
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.failures import ErrorKind, classify
from inference.errors import SeriesError
from inference.series import assemble, instances
from inference.series.assemble import assemble_volumes
from inference.series.errors import (
    NestedTooDeeplyError,
    ObjectTooLargeError,
    PixelDataTruncatedError,
    PixelDataUndecodableError,
    PixelFormatError,
    SeriesTooLargeError,
)
from inference.series.volume import SourceVolume
from tests.factories import EncodedInstance, ct_series

MB = 2**20


def peak_of(instances_: list[EncodedInstance]) -> tuple[int, float, SeriesError]:
    """Peak of newly allocated bytes and seconds until the refusal."""
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(SeriesError) as caught:
            assemble_volumes(instances_)
        return tracemalloc.get_traced_memory()[1], time.perf_counter() - began, caught.value
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [(65535, 65535, PixelFormatError), (46341, 46341, PixelFormatError), (8192, 8192, PixelDataTruncatedError)],
)
def test_huge_sizes_with_little_data_are_refused_before_allocation(rows, columns, expected):
    def enlarge(ds, _):
        ds.Rows, ds.Columns = rows, columns

    n_bytes, seconds, error = peak_of(list(ct_series(3, edit=enlarge)))
    assert isinstance(error, expected)
    assert n_bytes < 20 * MB
    assert seconds < 5


@pytest.mark.parametrize("transfer_syntax_uid", [JPEG2000Lossless, JPEGLSLossless], ids=["j2k", "jpeg-ls"])
def test_a_codestream_of_another_size_than_the_header_is_not_decoded(transfer_syntax_uid):
    series = ct_series(3, transfer_syntax_uid=transfer_syntax_uid)
    lying = [instance.edited(lambda ds: ds.update({"Rows": 8000, "Columns": 8000})) for instance in series]
    n_bytes, _, error = peak_of(lying)
    assert isinstance(error, PixelDataUndecodableError)
    assert "codestream of (40, 36)" in str(error)
    assert n_bytes < 800 * MB  # the volume that the header promises, as float32, untouched


def test_a_codestream_that_lies_about_its_size_is_not_decoded():
    def enlarge(ds):
        data = bytearray(ds.PixelData)
        at = data.index(b"\xff\x4f\xff\x51")
        data[at + 8 : at + 16] = struct.pack(">2I", 60_000, 60_000)
        ds.PixelData = bytes(data)

    n_bytes, seconds, error = peak_of([i.edited(enlarge) for i in ct_series(3, transfer_syntax_uid=JPEG2000Lossless)])
    assert isinstance(error, PixelDataUndecodableError)
    assert n_bytes < 20 * MB
    assert seconds < 5


@pytest.mark.parametrize("transfer_syntax_uid", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_compressed_frame_that_was_cut_short_is_refused(transfer_syntax_uid, kept):
    from pydicom.encaps import encapsulate, generate_frames

    def cut(ds):
        frame = next(generate_frames(ds.PixelData, number_of_frames=1))
        ds.PixelData = encapsulate([frame[: int(len(frame) * kept)]])

    with pytest.raises((PixelDataTruncatedError, PixelDataUndecodableError)):
        assemble_volumes([i.edited(cut) for i in ct_series(3, transfer_syntax_uid=transfer_syntax_uid)])


def test_a_deflated_bomb_is_not_inflated(monkeypatch):
    monkeypatch.setattr(instances, "MAX_INFLATED_BYTES", MB)
    (first, *_) = ct_series(3, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
    begin = 144 + int.from_bytes(first.part10[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(bytes(300 * MB)) + packer.flush()
    n_bytes, _, error = peak_of([EncodedInstance("bomb", first.part10[:begin] + bomb)])
    assert isinstance(error, ObjectTooLargeError)
    assert n_bytes < 20 * MB


def test_undefined_length_sequences_without_end_are_refused():
    head = ct_series(3)[0].part10[:600]
    opened = struct.pack("<HH2sHI", 0x0008, 0x1110, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    begin = 144 + int.from_bytes(head[140:144], "little")
    _, seconds, error = peak_of([EncodedInstance("deep", head[:begin] + opened * 20_000)])
    assert isinstance(error, NestedTooDeeplyError)
    assert seconds < 30


def test_elements_without_end_before_the_pixel_data_are_refused(monkeypatch):
    monkeypatch.setattr(instances, "MAX_ELEMENTS", 1000)
    part10 = ct_series(3)[0].part10
    begin = 144 + int.from_bytes(part10[140:144], "little")
    filler = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0) * 5000
    with pytest.raises(SeriesError, match="more than 1000 elements"):
        assemble_volumes([EncodedInstance("long", part10[:begin] + filler)])


def test_an_object_larger_than_any_real_one_is_not_read(monkeypatch):
    monkeypatch.setattr(instances, "MAX_OBJECT_BYTES", 1000)
    with pytest.raises(ObjectTooLargeError, match="expected at most 1000"):
        assemble_volumes(list(ct_series(3)))


def test_a_series_larger_than_memory_is_refused(monkeypatch):
    monkeypatch.setattr(assemble, "MAX_VOXELS", 3 * 40 * 36)
    with pytest.raises(SeriesTooLargeError, match="4320"):
        assemble_volumes(list(ct_series(4)))
    monkeypatch.setattr(assemble, "MAX_ENCODED_BYTES", 9000)
    with pytest.raises(SeriesTooLargeError, match="bytes of pixel data"):
        assemble_volumes(list(ct_series(4)))


def test_pixel_data_that_must_be_held_are_bounded_by_memory_and_not_by_disk(monkeypatch):
    monkeypatch.setattr(assemble, "MAX_HELD_BYTES", 9000)
    assert len(assemble_volumes(list(ct_series(4)))) == 1
    with pytest.raises(SeriesTooLargeError, match="bytes of pixel data that are held in memory, expected at most 9000"):
        assemble_volumes(list(ct_series(4, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)))


@settings(max_examples=150, deadline=None)
@given(
    at=st.floats(0, 1),
    patch=st.binary(min_size=1, max_size=12),
    keep=st.floats(0.05, 1.0),
    compressed=st.sampled_from([None, RLELossless, JPEG2000Lossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian]),
)
def test_damaged_bytes_give_a_volume_or_a_named_refusal(at, patch, keep, compressed):
    series = SERIES[compressed]
    data = bytearray(series[1].part10)
    begin = int(at * (len(data) - len(patch)))
    data[begin : begin + len(patch)] = patch
    damaged = EncodedInstance("damaged.dcm", bytes(data[: max(1, int(len(data) * keep))]))
    volumes: tuple[SourceVolume, ...] = ()
    with contextlib.suppress(SeriesError):
        volumes = assemble_volumes([series[0], damaged, series[2], series[3]])
    assert all(np.isfinite(source.volume.affine).all() for source in volumes)


SERIES = {
    uid: ct_series(4, **({} if uid is None else {"transfer_syntax_uid": uid}))
    for uid in (None, RLELossless, JPEG2000Lossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian)
}


@pytest.mark.parametrize("target", ["instances.scan_header", "pixels._decoded_rle"])
def test_a_machine_without_memory_is_no_damage_of_the_object(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_args: object) -> None:
        raise MemoryError

    series = list(ct_series(3, transfer_syntax_uid=RLELossless))
    monkeypatch.setattr(f"inference.series.{target}", exhausted)
    with pytest.raises(MemoryError) as raised:
        assemble_volumes(series)
    assert classify(raised.value) is ErrorKind.TRANSIENT

"""Deflated sources: copied as what they inflate to, and never inflated without a bound."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.export import copying
from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import write_copy
from dicom_node.export.errors import NotExportableError
from dicom_node.export.profile import read_profile
from dicom_node.export.pseudonyms import Pseudonyms
from tests.export.plants import encoded, hosts

MB = 2**20


def deflated(dataset: bytes, meta: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return meta + packer.compress(dataset) + packer.flush()


def meta_and_dataset() -> tuple[bytes, bytes]:
    """File meta information that says deflated, and a dataset in explicit VR little endian."""
    ds = hosts()["ct"]
    plain = encoded(ds)
    begin = 144 + int.from_bytes(plain[140:144], "little")
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    packed = encoded(ds)
    return packed[: 144 + int.from_bytes(packed[140:144], "little")], plain[begin:]


@pytest.fixture
def cleaner() -> Cleaner:
    return Cleaner(read_profile(None), Pseudonyms("project", bytes(range(32))))


def test_a_deflated_source_becomes_a_copy_with_the_same_pixels(tmp_path: Path, cleaner: Cleaner) -> None:
    meta, dataset = meta_and_dataset()
    result = write_copy(BytesIO(deflated(dataset, meta)), tmp_path, cleaner)
    copy = dcmread(tmp_path / result.relative_path)
    assert copy.PixelData == hosts()["ct"].PixelData
    assert copy.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_deflated_bomb_is_refused_by_name(tmp_path: Path, cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "MAX_INFLATED_BYTES", 4 * MB)
    meta, dataset = meta_and_dataset()
    element = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 64 * MB) + bytes(64 * MB)
    bomb = deflated(dataset[: dataset.index(b"\x10\x00\x10\x00")] + element, meta)
    tracemalloc.start()
    try:
        with pytest.raises(NotExportableError, match="the file inflates to more than 4194304 bytes"):
            write_copy(BytesIO(bomb), tmp_path, cleaner)
        assert tracemalloc.get_traced_memory()[1] < 12 * MB
    finally:
        tracemalloc.stop()

"""Frames encoded by other programs than the one that decodes them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless, HTJ2KLosslessRPCL

from inference.series.assemble import assemble_volumes
from inference.series.files import PathSource
from part10.codestream import codestream_size
from tests.factories import SyntheticSeries, ct_series


def twelve_bits() -> SyntheticSeries:
    """A CT in 12 unsigned bits, which lossy JPEG can hold."""
    return ct_series(3, edit=lambda ds, _: ds.update({"BitsStored": 12, "HighBit": 11}))


@pytest.mark.peers
@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmcjpeg is not installed (Debian package dcmtk)")
@pytest.mark.parametrize(
    ("option", "transfer_syntax_uid", "tolerance"),
    [
        ("--encode-lossless", "1.2.840.10008.1.2.4.57", 0),
        ("--encode-lossless-sv1", "1.2.840.10008.1.2.4.70", 0),
        ("--encode-extended", "1.2.840.10008.1.2.4.51", 1),  # two inverse transforms may round differently
    ],
)
def test_jpeg_is_decoded_as_dcmtk_does(tmp_path: Path, option: str, transfer_syntax_uid: str, tolerance: int):
    sources, expected = [], []
    for path in twelve_bits().write_to(tmp_path):
        packed, unpacked = path.with_suffix(".packed"), path.with_suffix(".unpacked")
        subprocess.run(["dcmcjpeg", option, "+un", str(path), str(packed)], check=True, timeout=60)
        subprocess.run(["dcmdjpeg", str(packed), str(unpacked)], check=True, timeout=60)
        assert dcmread(packed).file_meta.TransferSyntaxUID == transfer_syntax_uid
        sources.append(PathSource(packed))
        ds = dcmread(unpacked)  # lossy encoding spreads the values and writes the rescale that undoes it
        expected.append(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept))
    (source,) = assemble_volumes(sources)
    np.testing.assert_allclose(source.volume.array, expected, rtol=0, atol=tolerance)


@pytest.mark.peers
@pytest.mark.skipif(shutil.which("dcmcjpls") is None, reason="dcmcjpls is not installed (Debian package dcmtk)")
def test_jpeg_ls_as_dcmtk_writes_it(tmp_path: Path):
    series = twelve_bits()
    for path in series.write_to(tmp_path):
        subprocess.run(["dcmcjpls", "+un", str(path), str(path)], check=True, timeout=60)
    (source,) = assemble_volumes([PathSource(path) for path in sorted(tmp_path.iterdir())])
    np.testing.assert_array_equal(source.volume.array, series.voxels)


@pytest.mark.peers
@pytest.mark.skipif(shutil.which("dcmcrle") is None, reason="dcmcrle is not installed (Debian package dcmtk)")
def test_rle_as_dcmtk_writes_it(tmp_path: Path):
    series = ct_series(3, rescale_intercept=0.0)
    for path in series.write_to(tmp_path):
        subprocess.run(["dcmcrle", "+un", str(path), str(path)], check=True, timeout=60)
    (source,) = assemble_volumes([PathSource(path) for path in sorted(tmp_path.iterdir())])
    np.testing.assert_array_equal(source.volume.array, series.voxels)


@pytest.mark.parametrize("transfer_syntax_uid", [HTJ2KLossless, HTJ2KLosslessRPCL])
@pytest.mark.parametrize("rescale_intercept", [-1024.0, 0.0], ids=["unsigned", "signed"])
def test_high_throughput_jpeg_2000_as_openjph_writes_it(transfer_syntax_uid: str, rescale_intercept: float):
    series = ct_series(3, rescale_intercept=rescale_intercept)

    def encode(ds, _):
        ds.PixelData = encapsulate([imagecodecs.htj2k_encode(ds.pixel_array, reversible=True)])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = transfer_syntax_uid

    (source,) = assemble_volumes(list(series.edited(encode)))
    np.testing.assert_array_equal(source.volume.array, series.voxels)


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (imagecodecs.jpeg8_encode(np.zeros((40, 36), np.uint8)), (40, 36)),
        (imagecodecs.ljpeg_encode(np.zeros((40, 36), np.uint16)), (40, 36)),
        (imagecodecs.jpegls_encode(np.zeros((40, 36), np.uint16)), (40, 36)),
        (imagecodecs.jpeg2k_encode(np.zeros((40, 36), np.uint16), codecformat="j2k"), (40, 36)),
        (b"", None),
        (b"\xff\xd8\xff", None),
        (b"\xff\x4f\xff\x51\x00", None),
        (b"\xff\xd8" + b"\xff" * 1000, None),
        (b"\xff\xd8\xff\xe0\x00\x00" * 10, None),
    ],
)
def test_the_size_is_read_from_the_codestream(encoded: bytes, expected: tuple[int, int] | None):
    assert codestream_size(bytes(encoded)) == expected

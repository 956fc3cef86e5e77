"""Every way of storing pixels gives the numbers that were put in, or those that another toolkit reads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from inference.series.assemble import assemble_volumes
from inference.series.errors import PixelDataUndecodableError, RescaleError, UnsuitableObjectError
from inference.series.files import PathSource
from tests.factories import EncodedInstance, SyntheticSeries, ct_series

N_SLICES = 3
ROWS, COLUMNS = 40, 36
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def in_format(bits_allocated: int, bits_stored: int, *, is_signed: bool, seed: int = 1) -> np.ndarray:
    """(slice, row, column) numbers over the whole range of a format, the ends among them."""
    low = -(2 ** (bits_stored - 1)) if is_signed else 0
    values = np.random.default_rng(seed).integers(low, low + 2**bits_stored, (N_SLICES, ROWS, COLUMNS))
    values[:, 0, 0], values[:, 0, 1] = low, low + 2**bits_stored - 1
    return values.astype(f"{'i' if is_signed else 'u'}{bits_allocated // 8}")


def stored_as(
    values: np.ndarray,
    bits_stored: int,
    *,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    frames: list[bytes] | None = None,
    rubbish: int = 0,
    **attributes: object,
) -> SyntheticSeries:
    """A series with these stored values; ``rubbish`` fills the bits above the stored ones, ``frames`` are encoded."""
    bits_allocated = 8 * values.itemsize
    unsigned = values.astype(values.dtype.str.replace("i", "u").replace("f", "u"), copy=False)
    mask = (1 << bits_stored) - 1
    words = (unsigned & mask) | (rubbish & ~mask & ((1 << bits_allocated) - 1))
    order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"

    def edit(ds: Dataset, index: int) -> None:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits_allocated, bits_stored, bits_stored - 1
        ds.PixelRepresentation = int(values.dtype.kind == "i")
        ds.RescaleIntercept, ds.RescaleSlope = 0, 1
        ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
        if frames is None:
            ds.PixelData = words[index].astype(words.dtype.newbyteorder(order)).tobytes()
            ds["PixelData"].VR = "OB" if bits_allocated == 8 and transfer_syntax_uid != ImplicitVRLittleEndian else "OW"
        else:
            ds.PixelData = encapsulate([frames[index]])
            ds["PixelData"].is_undefined_length = True
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    # Edited after the series was made: the factory would swap bytes that are swapped already.
    return ct_series(N_SLICES, rows=ROWS, columns=COLUMNS).edited(edit)


def voxels_of(sources: object) -> np.ndarray:
    (source,) = assemble_volumes(list(sources))  # type: ignore[call-overload]
    return np.asarray(source.volume.array)


def as_gdcm_reads(series: SyntheticSeries, folder: Path) -> np.ndarray:
    """Measured values by GDCM, which has decoders of its own."""
    return np.stack([sitk.GetArrayFromImage(sitk.ReadImage(path))[0] for path in series.write_to(folder)])


FORMATS = [
    (8, 8, False), (8, 8, True), (8, 6, False), (16, 8, False), (16, 10, True), (16, 12, False), (16, 12, True),
    (16, 15, False), (16, 16, False), (16, 16, True), (32, 24, False), (32, 20, True),
]  # fmt: skip


@pytest.mark.parametrize("transfer_syntax_uid", NATIVE, ids=lambda uid: uid.name)
@pytest.mark.parametrize(("bits_allocated", "bits_stored", "is_signed"), FORMATS)
def test_native_pixels_are_what_was_stored_whatever_the_unused_bits_hold(
    transfer_syntax_uid: str, bits_allocated: int, bits_stored: int, is_signed: bool
) -> None:
    values = in_format(bits_allocated, bits_stored, is_signed=is_signed)
    for rubbish in (0, 0xA5A5A5A5, 0xFFFFFFFF):
        series = stored_as(values, bits_stored, transfer_syntax_uid=transfer_syntax_uid, rubbish=rubbish)
        np.testing.assert_array_equal(voxels_of(series), values)


LOSSLESS = {
    JPEGLosslessSV1: lambda plane: imagecodecs.ljpeg_encode(plane, bitspersample=8 * plane.itemsize),
    JPEGLSLossless: lambda plane: imagecodecs.jpegls_encode(plane),
    JPEG2000Lossless: lambda plane: imagecodecs.jpeg2k_encode(plane, codecformat="j2k", reversible=True),
}


@pytest.mark.parametrize("transfer_syntax_uid", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize(("bits_allocated", "bits_stored"), [(8, 8), (16, 12), (16, 16)])
def test_lossless_pixels_are_what_was_stored_and_what_gdcm_reads(
    tmp_path: Path, transfer_syntax_uid: str, bits_allocated: int, bits_stored: int
) -> None:
    values = in_format(bits_allocated, bits_stored, is_signed=False)
    frames = [bytes(LOSSLESS[transfer_syntax_uid](np.ascontiguousarray(plane))) for plane in values]
    series = stored_as(values, bits_stored, transfer_syntax_uid=transfer_syntax_uid, frames=frames)
    np.testing.assert_array_equal(voxels_of(series), values)
    np.testing.assert_array_equal(as_gdcm_reads(series, tmp_path), values)


@pytest.mark.parametrize("transfer_syntax_uid", [JPEGLosslessSV1, JPEGLSLossless])
@pytest.mark.parametrize("bits_stored", [12, 16])
def test_signed_values_in_codecs_that_know_no_sign(transfer_syntax_uid: str, bits_stored: int) -> None:
    values = in_format(16, bits_stored, is_signed=True)
    words = values.view(np.uint16) & ((1 << bits_stored) - 1)
    frames = [bytes(LOSSLESS[transfer_syntax_uid](np.ascontiguousarray(plane))) for plane in words]
    series = stored_as(values, bits_stored, transfer_syntax_uid=transfer_syntax_uid, frames=frames)
    np.testing.assert_array_equal(voxels_of(series), values)


def rle_of_literals(plane: np.ndarray) -> bytes:
    """RLE by hand (PS3.5 annex G): a segment for each byte, the highest first, in packets of bytes as they are."""
    octets = plane.astype(plane.dtype.newbyteorder(">")).view(np.uint8).reshape(-1, plane.itemsize).T
    segments = []
    for octet_plane in octets:
        data = octet_plane.tobytes()
        packets = (data[start : start + 128] for start in range(0, len(data), 128))
        segment = b"".join(bytes([len(packet) - 1]) + packet for packet in packets)
        segments.append(segment + b"\x80" * (len(segment) % 2))
    offsets, at = [], 64
    for segment in segments:
        offsets.append(at)
        at += len(segment)
    header = [len(segments), *offsets, *[0] * (15 - len(offsets))]
    return np.array(header, "<u4").tobytes() + b"".join(segments)


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
def test_rle_of_one_to_four_bytes_a_pixel(bits: int, is_signed: bool) -> None:
    values = in_format(bits, bits, is_signed=is_signed)
    frames = [rle_of_literals(plane) for plane in values]
    series = stored_as(values, bits, transfer_syntax_uid=RLELossless, frames=frames)
    np.testing.assert_array_equal(voxels_of(series), values.astype(np.float32))


def test_signed_jpeg_2000_of_twelve_bits() -> None:
    values = in_format(16, 12, is_signed=True)
    frames = [
        bytes(imagecodecs.jpeg2k_encode(np.ascontiguousarray(plane), codecformat="j2k", bitspersample=12))
        for plane in values
    ]
    series = stored_as(values, 12, transfer_syntax_uid=JPEG2000Lossless, frames=frames)
    np.testing.assert_array_equal(voxels_of(series), values)


def smooth(bits: int) -> np.ndarray:
    """A picture that lossy codecs come close to."""
    slices, rows, columns = np.meshgrid(*(np.arange(n) for n in (N_SLICES, ROWS, COLUMNS)), indexing="ij")
    wave = np.sin(rows / 7.0) * np.cos(columns / 9.0 + slices)
    return np.rint((0.5 + 0.45 * wave) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize(
    ("transfer_syntax_uid", "bits", "encode", "largest_error"),
    [
        (JPEGBaseline8Bit, 8, lambda p: imagecodecs.jpeg8_encode(p, level=95), 4),
        (JPEGExtended12Bit, 12, lambda p: imagecodecs.jpeg8_encode(p, level=98, bitspersample=12), 40),
        (JPEGLSNearLossless, 12, lambda p: imagecodecs.jpegls_encode(p, level=3), 3),
        (JPEG2000, 12, lambda p: imagecodecs.jpeg2k_encode(p, level=90, codecformat="j2k", reversible=False), 40),
        (HTJ2K, 12, lambda p: imagecodecs.htj2k_encode(p, reversible=False), 40),
    ],
    ids=["jpeg-baseline", "jpeg-extended", "jpeg-ls-near", "jpeg-2000", "htj2k"],
)
def test_lossy_pixels_are_close_to_what_was_stored(transfer_syntax_uid, bits, encode, largest_error) -> None:
    values = smooth(bits)
    frames = [bytes(encode(np.ascontiguousarray(plane))) for plane in values]
    series = stored_as(values, bits, transfer_syntax_uid=transfer_syntax_uid, frames=frames)
    difference = np.abs(voxels_of(series) - values.astype(np.float32))
    assert difference.max() <= largest_error


@pytest.mark.parametrize("transfer_syntax_uid", [JPEGBaseline8Bit, JPEGLSNearLossless, JPEG2000])
def test_lossy_pixels_are_what_gdcm_reads(tmp_path: Path, transfer_syntax_uid: str) -> None:
    encode = {
        JPEGBaseline8Bit: lambda p: imagecodecs.jpeg8_encode(p, level=90),
        JPEGLSNearLossless: lambda p: imagecodecs.jpegls_encode(p, level=2),
        JPEG2000: lambda p: imagecodecs.jpeg2k_encode(p, level=50, codecformat="j2k", reversible=False),
    }[transfer_syntax_uid]
    values = smooth(8)
    frames = [bytes(encode(np.ascontiguousarray(plane))) for plane in values]
    series = stored_as(values, 8, transfer_syntax_uid=transfer_syntax_uid, frames=frames)
    tolerance = 1 if transfer_syntax_uid == JPEGBaseline8Bit else 0  # two inverse transforms may round differently
    np.testing.assert_allclose(voxels_of(series), as_gdcm_reads(series, tmp_path), rtol=0, atol=tolerance)


@pytest.mark.peers
@pytest.mark.skipif(shutil.which("dcmconv") is None, reason="dcmconv is not installed (Debian package dcmtk)")
@pytest.mark.parametrize("option", ["+ti", "+te", "+tb", "+td"], ids=["implicit", "explicit", "big-endian", "deflated"])
@pytest.mark.parametrize("lengths", ["+e", "-e"], ids=["explicit-lengths", "undefined-lengths"])
def test_what_dcmtk_writes_is_read(tmp_path: Path, option: str, lengths: str) -> None:
    def with_sequence(ds: Dataset, _: int) -> None:
        inner, outer = Dataset(), Dataset()
        inner.CodeValue, inner.CodingSchemeDesignator, inner.CodeMeaning = "1", "99TEST", "Inner"
        outer.ScheduledProtocolCodeSequence = [inner, inner]
        ds.RequestAttributesSequence = [outer]

    series = ct_series(N_SLICES, edit=with_sequence)
    for path in series.write_to(tmp_path):
        subprocess.run(["dcmconv", option, lengths, str(path), str(path)], check=True, timeout=60)
    (source,) = assemble_volumes([PathSource(path) for path in sorted(tmp_path.iterdir())])
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    request = source.headers[0].RequestAttributesSequence[0]
    assert [item.CodeMeaning for item in request.ScheduledProtocolCodeSequence] == ["Inner", "Inner"]
    assert source.headers[0].PatientName == "Phantom^Åsa"


def test_monochrome1_changes_nothing_but_the_display_of_a_ct() -> None:
    series = ct_series(N_SLICES)
    inverted = series.edited(lambda ds, _: ds.update({"PhotometricInterpretation": "MONOCHROME1"}))
    np.testing.assert_array_equal(voxels_of(inverted), series.voxels)


def test_padding_that_is_air_is_rescaled_like_every_other_value() -> None:
    def pad(ds: Dataset, _: int) -> None:
        ds.add_new("PixelPaddingValue", "US", 0)
        ds.add_new("PixelPaddingRangeLimit", "US", 40)

    series = ct_series(N_SLICES)
    np.testing.assert_array_equal(voxels_of(series.edited(pad)), series.voxels)


def test_each_slice_is_rescaled_by_its_own_slope_and_intercept() -> None:
    values = in_format(16, 12, is_signed=False)
    series = stored_as(values, 12)

    def rescale(ds: Dataset, index: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = (1.0, 0.5, 2.25)[index], (-1024, 3, 0)[index]

    expected = [values[0] - 1024.0, values[1] * 0.5 + 3.0, values[2] * 2.25]
    np.testing.assert_array_equal(voxels_of(series.edited(rescale)), expected)


def test_philips_private_scaling_is_left_alone() -> None:
    values = in_format(16, 12, is_signed=False)

    def scale(ds: Dataset, _: int) -> None:
        ds.RescaleSlope = 2
        block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.03)
        block.add_new(0x0D, "FL", 7.0)

    np.testing.assert_array_equal(voxels_of(stored_as(values, 12).edited(scale)), values * 2.0)


def test_a_modality_lut_is_refused_because_no_ct_or_mr_scanner_writes_one() -> None:
    def add(ds: Dataset, _: int) -> None:
        lut = Dataset()
        lut.LUTDescriptor, lut.ModalityLUTType = [4, 0, 16], "HU"
        lut.add_new("LUTData", "US", [0, 10, 20, 30])
        ds.ModalityLUTSequence = [lut]

    with pytest.raises(RescaleError, match="Modality LUT Sequence"):
        voxels_of(ct_series(N_SLICES).edited(add))


def test_an_odd_number_of_pixels_of_eight_bits_is_padded() -> None:
    values = in_format(8, 8, is_signed=False)[:, :39, :35]

    def cut(ds: Dataset, index: int) -> None:
        ds.Rows, ds.Columns = 39, 35
        ds.PixelData = values[index].tobytes() + b"\0"

    np.testing.assert_array_equal(voxels_of(stored_as(in_format(8, 8, is_signed=False), 8).edited(cut)), values)


def floats(values: np.ndarray) -> list[EncodedInstance]:
    def replace(ds: Dataset, index: int) -> None:
        del ds.PixelData
        for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
            delattr(ds, keyword)
        ds.BitsAllocated = 8 * values.itemsize
        ds.RescaleIntercept, ds.RescaleSlope = 1, 2
        keyword = "FloatPixelData" if values.itemsize == 4 else "DoubleFloatPixelData"
        setattr(ds, keyword, values[index].astype(values.dtype.newbyteorder("<")).tobytes())

    return list(ct_series(N_SLICES, rows=ROWS, columns=COLUMNS).edited(replace))


def test_floating_point_pixels_are_rescaled_too() -> None:
    values = np.random.default_rng(2).normal(0, 1000, (N_SLICES, ROWS, COLUMNS)).astype(np.float32)
    expected = (values.astype(np.float64) * 2.0 + 1.0).astype(np.float32)
    np.testing.assert_array_equal(voxels_of(floats(values)), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("size", [4, 8])
def test_floating_point_pixels_that_are_no_numbers_become_air(value: float, size: int) -> None:
    values = np.full((N_SLICES, ROWS, COLUMNS), -20.0, f"f{size}")
    values[1, 2, 3], values[0, 5, 6] = value, 700.0
    (source,) = assemble_volumes(floats(values))
    expected = np.full(values.shape, -39.0)
    expected[1, 2, 3], expected[0, 5, 6] = -1024.0, 1401.0
    np.testing.assert_array_equal(source.volume.array, expected)
    assert source.missing is not None
    assert np.argwhere(source.missing).tolist() == [[1, 2, 3]]
    assert [remark.code for remark in source.remarks] == ["voxels-not-finite"]


def test_double_floating_point_pixels_are_rounded_once() -> None:
    values = np.random.default_rng(3).normal(0, 1000, (N_SLICES, ROWS, COLUMNS))
    np.testing.assert_array_equal(voxels_of(floats(values)), (values * 2.0 + 1.0).astype(np.float32))


def test_a_rescale_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(RescaleError, match=r"beyond 1e\+18"):
        voxels_of(ct_series(N_SLICES).edited(lambda ds, _: ds.update({"RescaleSlope": 1e36})))


def test_fragments_in_a_native_transfer_syntax_are_refused_by_name() -> None:
    meant, said = RLELossless.encode(), ExplicitVRLittleEndian.encode().ljust(len(RLELossless), b"\0")
    series = ct_series(N_SLICES, transfer_syntax_uid=RLELossless)
    lying = [EncodedInstance(each.name, each.part10.replace(meant, said, 1)) for each in series]
    with pytest.raises(UnsuitableObjectError, match="fragments"):
        voxels_of(lying)


def test_a_codestream_with_more_bits_than_allocated_is_refused() -> None:
    values = in_format(8, 8, is_signed=False)
    wide = (values.astype(np.uint16) << 4) + 3
    frames = [bytes(imagecodecs.jpegls_encode(np.ascontiguousarray(plane))) for plane in wide]
    with pytest.raises(PixelDataUndecodableError, match="more than 8 bits"):
        voxels_of(stored_as(values, 8, transfer_syntax_uid=JPEGLSLossless, frames=frames))

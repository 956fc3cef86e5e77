"""Padding, unused bits, rescale that differs between slices, inverted MR, and more pixel data than frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLSLossless, RLELossless

from inference.series.assemble import assemble_volumes
from inference.series.errors import PixelDataTooLongError, RescaleDiffersError
from inference.series.volume import SourceVolume
from tests.factories import CORONAL, EncodedInstance, SyntheticSeries, ct_series, enhanced_mr, mr_series

CORNER = (slice(None), slice(0, 6), slice(0, 5))


def read(sources: Sequence[EncodedInstance]) -> SourceVolume:
    (source,) = assemble_volumes(list(sources))
    return source


def codes(source: SourceVolume) -> list[str]:
    return [remark.code for remark in source.remarks]


def in_bits(series: SyntheticSeries, bits_stored: int, **words: int) -> SyntheticSeries:
    """The series with fewer bits stored, and in its corner a word (``corner``), elsewhere another (``inside``)."""

    def edit(ds: Dataset, index: int) -> None:
        pixels = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns) & ((1 << bits_stored) - 1)
        if "corner" in words:
            pixels[CORNER[1:]] = words["corner"]
        if "inside" in words:
            pixels[20, 15:18] |= words["inside"]
        ds.PixelData = pixels.astype("<u2").tobytes()
        ds.BitsStored, ds.HighBit = bits_stored, bits_stored - 1

    return series.edited(edit)


def with_padding(series: SyntheticSeries, value: int, vr: str = "US", limit: int | None = None) -> SyntheticSeries:
    def edit(ds: Dataset, _: int) -> None:
        ds.add_new("PixelPaddingValue", vr, value)
        if limit is not None:
            ds.add_new("PixelPaddingRangeLimit", vr, limit)

    return series.edited(edit)


def with_air_in_corner(series: SyntheticSeries, air: float) -> np.ndarray:
    expected = series.voxels.copy()
    expected[CORNER] = air
    return expected


@pytest.mark.parametrize(("value", "vr"), [(63536, "US"), (-2000, "SS")])
def test_padding_that_bits_stored_cannot_hold_is_air(value: int, vr: str) -> None:
    series = ct_series(5)
    padded = with_padding(in_bits(series, 12, corner=63536), value, vr)
    source = read(padded)
    np.testing.assert_array_equal(source.volume.array, with_air_in_corner(series, -1024.0))
    assert codes(source) == ["padding-is-air"]
    assert source.missing is not None
    assert source.missing[CORNER].all()
    assert np.count_nonzero(source.missing) == 5 * 30


def test_padding_that_nobody_named_is_air_where_one_value_fills_all_corners() -> None:
    series = ct_series(5)
    rows, columns = np.indices((40, 36))
    is_outside = ((rows - 19.5) / 20) ** 2 + ((columns - 17.5) / 18) ** 2 > 1

    def pad(ds: Dataset, _: int) -> None:
        pixels = np.frombuffer(ds.PixelData, "<u2").reshape(40, 36)
        ds.PixelData = np.where(is_outside, 63536, pixels).astype("<u2").tobytes()
        ds.BitsStored, ds.HighBit = 12, 11

    source = read(series.edited(pad))
    np.testing.assert_array_equal(source.volume.array, np.where(is_outside, -1024.0, series.voxels))
    one_corner = read(in_bits(series, 12, corner=63536))
    np.testing.assert_array_equal(one_corner.volume.array[CORNER], (63536 & 4095) - 1024.0)
    assert codes(one_corner) == ["unused-bits-set"]


def test_padding_whose_upper_bits_a_codec_dropped_is_air() -> None:
    series = ct_series(5)
    source = read(with_padding(in_bits(series, 12, corner=63536 & 4095), 63536))
    np.testing.assert_array_equal(source.volume.array, with_air_in_corner(series, -1024.0))


def test_padding_in_range_is_air_where_it_would_be_tissue() -> None:
    series = ct_series(5)
    bright = in_bits(series, 12, corner=4095)
    assert read(bright).volume.array.max() == 3071.0
    np.testing.assert_array_equal(read(with_padding(bright, 4095)).volume.array, with_air_in_corner(series, -1024.0))
    limited = with_padding(in_bits(series, 12, corner=4090), 4095, limit=4080)
    np.testing.assert_array_equal(read(limited).volume.array, with_air_in_corner(series, -1024.0))


def test_tissue_that_only_shares_its_value_with_padding_stays() -> None:
    series = ct_series(5)
    inside = in_bits(series, 12)
    value = 1424  # 400 HU
    island = inside.edited(lambda ds, _: setattr(ds, "PixelData", _with_block(ds, slice(15, 20), slice(12, 17), value)))
    source = read(with_padding(island, value))
    np.testing.assert_array_equal(source.volume.array[:, 15:20, 12:17], 400.0)
    assert codes(source) == []


def _with_block(ds: Dataset, rows: slice, columns: slice, value: int) -> bytes:
    pixels = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns).copy()
    pixels[rows, columns] = value
    return pixels.tobytes()


@pytest.mark.parametrize(("value", "vr"), [(-2000, "SS"), (63536, "US"), ("-2000", "LO")])
def test_signed_padding_below_air_keeps_its_value(value: object, vr: str) -> None:
    series = ct_series(4, rescale_intercept=0.0)  # signed, 16 bits
    padded = series.edited(lambda ds, _: setattr(ds, "PixelData", _with_signed_corner(ds, -2000)))
    source = read(with_padding(padded, value, vr))  # type: ignore[arg-type]
    np.testing.assert_array_equal(source.volume.array[CORNER], -2000.0)
    assert codes(source) == []


def _with_signed_corner(ds: Dataset, value: int) -> bytes:
    pixels = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
    pixels[CORNER[1:]] = value
    return pixels.tobytes()


@pytest.mark.parametrize("value", [-32768, 32767])
def test_padding_of_mr_is_as_dark_as_its_darkest(value: int) -> None:
    series = mr_series(5, orientation=CORONAL)

    def pad(ds: Dataset, _: int) -> None:
        ds.PixelRepresentation = 1
        ds.PixelData = _with_signed_corner(ds, value)
        ds.add_new("PixelPaddingValue", "SS", value)

    source = read(series.edited(pad))
    np.testing.assert_array_equal(source.volume.array, with_air_in_corner(series, 0.0))


def test_a_padding_range_over_half_of_all_values_is_a_mistake() -> None:
    series = ct_series(4)
    source = read(with_padding(series, 0, limit=65535))
    np.testing.assert_array_equal(source.volume.array, series.voxels)


@pytest.mark.parametrize("keyword", ["FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue"])
def test_padding_of_floating_point_pixels_is_air(keyword: str) -> None:
    size = 8 if keyword.startswith("Double") else 4
    series = ct_series(4)

    def as_float(ds: Dataset, index: int) -> None:
        pixels = series.voxels[index].astype(f"<f{size}")
        pixels[CORNER[1:]] = 12345.0
        del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
        ds.BitsAllocated, ds.RescaleIntercept = 8 * size, 0
        setattr(ds, "FloatPixelData" if size == 4 else "DoubleFloatPixelData", pixels.tobytes())
        setattr(ds, keyword, 12345.0)

    np.testing.assert_array_equal(read(series.edited(as_float)).volume.array, with_air_in_corner(series, -1024.0))


def test_bits_above_those_stored_are_ignored_with_a_remark() -> None:
    series = ct_series(4)
    overlay = series.edited(lambda ds, _: None)
    odd = in_bits(overlay, 12, inside=0x1000)
    source = read(odd.edited(_set_one_more_bit))
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    assert codes(source) == ["unused-bits-set"]
    assert source.remarks[0].text.startswith("16 pixels have bits set above Bits Stored (12)")


def _set_one_more_bit(ds: Dataset, _: int) -> None:
    pixels = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns).copy()
    pixels[30, 20] |= 0x2000
    ds.PixelData = pixels.tobytes()


def test_values_that_need_more_bits_than_stored_are_read_with_all_of_them() -> None:
    rows = np.arange(40, dtype=np.float32)[:, None]
    voxels = np.broadcast_to(100.0 * rows + 30.0 * np.arange(36), (4, 40, 36)).astype(np.float32)  # up to 4950
    series = ct_series(4, voxels_hu=voxels, rescale_intercept=0.0)

    def lie(ds: Dataset, _: int) -> None:
        ds.BitsStored, ds.HighBit = 12, 11

    source = read(series.edited(lie))
    np.testing.assert_array_equal(source.volume.array, voxels)
    assert codes(source) == ["bits-stored-too-few"]


MISSING = ("RescaleSlope", "RescaleIntercept", "RescaleType")


def without_rescale(series: SyntheticSeries, indices: Sequence[int]) -> SyntheticSeries:
    def edit(ds: Dataset, index: int) -> None:
        if index in indices:
            for keyword in MISSING:
                delattr(ds, keyword)

    return series.edited(edit)


@pytest.mark.parametrize("indices", [[7], [0, 1, 2], list(range(1, 20, 3)), [19]], ids=str)
def test_slices_that_lost_their_rescale_get_that_of_their_neighbours(indices: list[int]) -> None:
    series = ct_series(20)
    source = read(without_rescale(series, indices))
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    assert codes(source) == ["rescale-completed"]
    assert source.remarks[0].text.startswith(f"{len(indices)} of 20 slices have no rescale")


def test_slices_without_rescale_that_hold_hounsfield_units_keep_them() -> None:
    series = ct_series(20)

    def edit(ds: Dataset, index: int) -> None:
        if index % 4 == 2:
            hounsfield = np.frombuffer(ds.PixelData, "<u2").astype(np.int32) - 1024
            ds.PixelData, ds.PixelRepresentation = hounsfield.astype("<i2").tobytes(), 1
            for keyword in MISSING:
                delattr(ds, keyword)

    source = read(series.edited(edit))
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    assert codes(source) == ["rescale-incomplete"]


def test_frames_that_lost_their_rescale_get_that_of_their_neighbours() -> None:
    series = mr_series(20, orientation=CORONAL)

    def edit(ds: Dataset) -> None:
        for index, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
            if index in (4, 5, 11):
                del groups.PixelValueTransformationSequence
            else:
                transformation = groups.PixelValueTransformationSequence[0]
                transformation.RescaleSlope, transformation.RescaleIntercept = 3, -500

    source = read([enhanced_mr(series, edit=edit)])
    np.testing.assert_array_equal(source.volume.array, series.voxels * 3 - 500)


def test_slices_whose_own_rescale_makes_them_jump_are_refused_and_located() -> None:
    wrong = ct_series(20, edit=lambda ds, index: setattr(ds, "RescaleIntercept", 0 if 8 <= index < 11 else -1024))
    with pytest.raises(RescaleDiffersError, match=r"after slice 8 .* from 1 and -1024 to 1 and 0"):
        read(wrong)


def test_slices_without_rescale_among_different_ones_are_refused() -> None:
    series = ct_series(20)

    def edit(ds: Dataset, index: int) -> None:
        if index in (6, 13):
            del ds.RescaleIntercept
        elif index > 9:
            ds.RescaleSlope = 2
            halves = np.frombuffer(ds.PixelData, "<u2") // 2
            ds.PixelData = halves.tobytes()

    with pytest.raises(RescaleDiffersError):
        read(series.edited(edit))


def scaled_as_pet(ds: Dataset, index: int) -> None:
    """Store the slice with a slope of its own, so that it fills its bits."""
    values = np.frombuffer(ds.PixelData, "<u2").astype(np.float64)
    ds.RescaleSlope = slope = 0.05 * (1 + index % 7)
    ds.RescaleIntercept = 0
    ds.PixelData = np.rint(values / slope).astype("<u2").tobytes()


@pytest.mark.parametrize("n_slices", [20, 8])
def test_a_slope_for_each_slice_is_applied_slice_by_slice(n_slices: int) -> None:
    series = mr_series(n_slices, orientation=CORONAL)
    source = read(series.edited(scaled_as_pet))
    np.testing.assert_allclose(source.volume.array, series.voxels, atol=0.2)
    assert codes(source) == ["rescale-changes"]


def inverted(ds: Dataset, _: int) -> None:
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.PixelData = (4095 - np.frombuffer(ds.PixelData, "<u2")).astype("<u2").tobytes()


def test_inverted_mr_is_put_upright() -> None:
    series = mr_series(6, orientation=CORONAL)
    source = read(series.edited(inverted))
    np.testing.assert_array_equal(source.volume.array, series.voxels - series.voxels.min())
    assert codes(source) == ["inverted"]


def test_inverted_frames_are_put_upright() -> None:
    series = mr_series(6, orientation=CORONAL)

    def edit(ds: Dataset) -> None:
        inverted(ds, 0)
        for groups in ds.PerFrameFunctionalGroupsSequence:
            del groups.PixelValueTransformationSequence

    source = read([enhanced_mr(series, edit=edit)])
    np.testing.assert_array_equal(source.volume.array, series.voxels - series.voxels.min())


def test_mr_that_is_dark_outside_as_stored_is_not_inverted() -> None:
    series = mr_series(6, orientation=CORONAL)
    source = read(series.edited(lambda ds, _: setattr(ds, "PhotometricInterpretation", "MONOCHROME1 ")))
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    assert codes(source) == ["monochrome1-contradicted"]


def longer_by(octets: bytes) -> list[EncodedInstance]:
    return list(ct_series(4, edit=lambda ds, _: setattr(ds, "PixelData", ds.PixelData + octets)))


@pytest.mark.parametrize("octets", [b"\0\0", b"rubbish!", bytes(4 * 40 * 36)], ids=["two", "eight", "two empty frames"])
def test_a_few_bytes_or_nothing_behind_the_frames_is_left_out_with_a_remark(octets: bytes) -> None:
    source = read(longer_by(octets))
    np.testing.assert_array_equal(source.volume.array, ct_series(4).voxels)
    assert codes(source) == ["pixel-data-longer"]
    assert f"up to {len(octets)} bytes" in source.remarks[0].text


def test_the_same_frame_again_is_left_out_with_a_remark() -> None:
    twice = ct_series(4, edit=lambda ds, _: setattr(ds, "PixelData", 2 * ds.PixelData))
    assert codes(read(twice)) == ["pixel-data-longer"]


def test_a_byte_that_makes_the_length_even_is_not_worth_a_remark() -> None:
    def odd(ds: Dataset, index: int) -> None:
        ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 39, 35, 8, 8, 7
        ds.PixelData = np.full(39 * 35, 50 + index, np.uint8).tobytes() + b"\0"
        ds.RescaleIntercept = 0

    assert codes(read(ct_series(4, edit=odd))) == []


def test_another_frame_behind_the_last_is_refused() -> None:
    longer = ct_series(4, edit=lambda ds, _: setattr(ds, "PixelData", ds.PixelData + ds.PixelData[::-1]))
    with pytest.raises(PixelDataTooLongError, match=r"5760 bytes, expected 2880 for 1 frames"):
        read(longer)


@pytest.mark.parametrize("has_offsets", [True, False])
@pytest.mark.parametrize("transfer_syntax_uid", [RLELossless, JPEGLSLossless])
def test_another_compressed_frame_is_refused(transfer_syntax_uid: str, has_offsets: bool) -> None:
    series = ct_series(4, transfer_syntax_uid=transfer_syntax_uid)

    def add(ds: Dataset, index: int) -> None:
        fragments = [_only_fragment(series[other].dataset()) for other in (index, (index + 1) % 4)]
        ds.PixelData = encapsulate(fragments, has_bot=has_offsets)
        ds["PixelData"].is_undefined_length = True

    with pytest.raises(PixelDataTooLongError, match="expected 1"):
        read(series.edited(add))


def _only_fragment(ds: Dataset) -> bytes:
    return next(generate_frames(ds.PixelData, number_of_frames=1))

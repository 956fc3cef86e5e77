"""Headers that contradict themselves a little: numbers as text, no frames, rounded cosines, repeats, odd planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.uid import JPEG2000Lossless, RLELossless

from inference.series.assemble import assemble_volumes
from inference.series.errors import (
    DuplicatePositionsError,
    GeometryMissingError,
    MixedSizeError,
    PixelFormatError,
    StackError,
    TooFewSlicesError,
)
from inference.series.numbers import numbers_at, numbers_in
from inference.series.volume import SourceVolume
from tests.factories import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    EncodedInstance,
    SyntheticSeries,
    ct_series,
    enhanced_mr,
    mr_series,
    uid_of,
)


def read(sources: Sequence[EncodedInstance]) -> SourceVolume:
    (source,) = assemble_volumes(list(sources))
    return source


def codes(source: SourceVolume) -> list[str]:
    return [remark.code for remark in source.remarks]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()), ("", ()), (" \0", ()), (3, (3.0,)), ("0.9765", (0.9765,)), ("1.2\\1.2 ", (1.2, 1.2)),
        (["1", 2.5], (1.0, 2.5)), ("0,9765\\1,5", (0.9765, 1.5)), ("-1e-3\0", (-0.001,)),
    ],
)  # fmt: skip
def test_numbers_are_read_from_whatever_holds_them(value: object, expected: tuple[float, ...]) -> None:
    assert numbers_in(value) == expected


@pytest.mark.parametrize("value", ["abc", "1.2.3", "1_000", "1\\", "0x10", [None, "x"]])
def test_what_is_no_number_is_said(value: object) -> None:
    with pytest.raises(ValueError, match=r"num|convert"):
        numbers_in(value)


# Keyword, a VR of its own kind of wrongness, and the value as that VR holds it.
ODD: list[tuple[str, str, object]] = [
    ("PixelSpacing", "UT", "0.8\\0.7"), ("PixelSpacing", "LO", ["0.8", "0.7"]), ("PixelSpacing", "FD", [0.8, 0.7]),
    ("PixelSpacing", "OB", b"0.8\\0.7 "), ("PixelSpacing", "UT", "0,8\\0,7"), ("PixelSpacing", "UN", b"0.8\\0.7 "),
    ("ImageOrientationPatient", "LT", "1\\0\\0\\0\\1\\0"), ("ImageOrientationPatient", "FL", [1, 0, 0, 0, 1, 0]),
    ("Rows", "LO", "40"), ("Rows", "UL", 40), ("Rows", "IS", "40"), ("Rows", "UN", b"\x28\0"),
    ("Rows", "OB", b"\x28\0"),
    ("Columns", "DS", "36.0"), ("BitsAllocated", "SH", "16"), ("BitsStored", "SS", 16), ("HighBit", "UT", "15"),
    ("PixelRepresentation", "CS", "0"), ("SamplesPerPixel", "LO", "1"), ("RescaleIntercept", "UT", "-1024"),
    ("RescaleSlope", "FL", 1.0), ("SliceThickness", "UT", "3"), ("SpacingBetweenSlices", "LO", "3.0"),
    ("NumberOfFrames", "US", 1), ("InstanceNumber", "UT", "7"), ("NumberOfFrames", "IS", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("keyword", "vr", "value"), ODD, ids=lambda value: str(value)[:30])
def test_a_number_with_another_vr_is_the_same_number(keyword: str, vr: str, value: object) -> None:
    def change(ds: Dataset, _: int) -> None:
        if keyword in ds:
            del ds[keyword]
        ds.add_new(keyword, "OB" if vr == "UN" else vr, value)
        ds[keyword].VR = vr  # pydicom would replace UN by what its dictionary says

    series = ct_series(4)
    source = read(series.edited(change))
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    np.testing.assert_allclose(source.volume.affine, series.affine, atol=1e-6)
    assert codes(source) == []


def test_positions_as_text_are_read() -> None:
    def change(ds: Dataset, _: int) -> None:
        text = "\\".join(str(value) for value in ds.ImagePositionPatient)
        del ds.ImagePositionPatient
        ds.add_new("ImagePositionPatient", "UT", text)

    series = ct_series(4)
    np.testing.assert_allclose(read(series.edited(change)).volume.affine, series.affine, atol=1e-6)


def test_numbers_that_cannot_be_meant_are_refused() -> None:
    def change(ds: Dataset, _: int) -> None:
        del ds.PixelSpacing
        ds.add_new("PixelSpacing", "UT", "narrow\\wide")

    with pytest.raises(GeometryMissingError, match="PixelSpacing is not a list of numbers"):
        read(ct_series(4).edited(change))
    with pytest.raises(PixelFormatError, match="Rows is not a whole number"):
        read(ct_series(4).edited(lambda ds, _: ds.add_new("Rows", "LO", "39.5")))


def test_a_value_that_pydicom_refuses_is_read_as_text() -> None:
    series = ct_series(1)[0]
    bytes_of_number = series.part10.replace(b"0.8\\0.7 ", b"0,8\\0,7 ")
    assert bytes_of_number != series.part10
    assert numbers_at(EncodedInstance("", bytes_of_number).dataset(), "PixelSpacing") == (0.8, 0.7)


@pytest.mark.parametrize("n_frames", [0, None, 1])
def test_no_number_of_frames_is_one_frame(n_frames: int | None) -> None:
    series = mr_series(4, orientation=CORONAL)
    source = read(series.edited(lambda ds, _: setattr(ds, "NumberOfFrames", n_frames)))
    np.testing.assert_array_equal(source.volume.array, series.voxels)


@pytest.mark.parametrize("n_frames", [0, None])
def test_a_multi_frame_image_has_as_many_frames_as_functional_groups(n_frames: int | None) -> None:
    series = mr_series(4, orientation=CORONAL)

    def edit(ds: Dataset) -> None:
        ds.NumberOfFrames = n_frames
        if n_frames is None:
            del ds.NumberOfFrames

    assert read([enhanced_mr(series, edit=edit)]).volume.spatial_shape[0] == 4


@pytest.mark.parametrize("n_frames", [-1, 2])
def test_other_numbers_of_frames_are_refused_in_a_single_frame_class(n_frames: int) -> None:
    with pytest.raises(PixelFormatError, match=f"{n_frames} frames"):
        read(mr_series(4, edit=lambda ds, _: setattr(ds, "NumberOfFrames", n_frames)))


@pytest.mark.parametrize("n_frames", [1, 2])
def test_one_or_two_frames_are_too_few_slices(n_frames: int) -> None:
    with pytest.raises(TooFewSlicesError, match=f"has {n_frames} slice"):
        read([enhanced_mr(mr_series(n_frames))])


def test_two_positions_are_too_few_however_often_they_were_scanned() -> None:
    with pytest.raises(TooFewSlicesError, match="has 2 slices"):
        read([*mr_series(2), *_again(mr_series(2), "time")])


OBLIQUE = (0.992988, 0.041232, -0.110821, -0.000611, 0.938762, 0.344565)  # turned about x and y


def oblique() -> tuple[float, ...]:
    row, column = np.array(OBLIQUE).reshape(2, 3)
    row /= np.linalg.norm(row)
    column -= (row @ column) * row
    return (*row, *(column / np.linalg.norm(column)))


def with_cosines(series: SyntheticSeries, cosines: Sequence[float]) -> SyntheticSeries:
    return series.edited(lambda ds, _: setattr(ds, "ImageOrientationPatient", [f"{value:.10g}" for value in cosines]))


def test_cosines_of_two_decimals_are_made_exact() -> None:
    series = mr_series(85, rows=48, columns=44, spacing_mm=(1.2, 1.2, 1.2), orientation=oblique())
    rounded = with_cosines(series, np.round(oblique(), 2))
    source = read(rounded)
    assert codes(source) == ["cosines-rounded"]
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    directions = source.volume.affine[:3, :3] / source.volume.spacing
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-9)
    # Every voxel of a frame lies within what half of the last digit allows, the frames themselves exactly.
    np.testing.assert_allclose(source.volume.affine[:3, [0, 3]], series.affine[:3, [0, 3]], atol=1e-4)
    corners = np.array([[0, 0, 0, 1], [84, 47, 0, 1], [0, 0, 43, 1], [84, 47, 43, 1]])
    off_mm = np.linalg.norm((corners @ (source.volume.affine - series.affine).T)[:, :3], axis=1)
    assert off_mm.max() < 0.01 * 1.2 * 48


def test_the_directions_are_those_that_simpleitk_makes_of_rounded_cosines(tmp_path) -> None:
    series = mr_series(12, spacing_mm=(1.2, 1.2, 1.2), orientation=oblique())
    rounded = with_cosines(series, np.round(oblique(), 2))
    source = read(rounded)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in rounded.write_to(tmp_path)])
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), source.volume.array)
    ours = source.volume.affine[:3, [2, 1, 0]] / source.volume.spacing[::-1]
    np.testing.assert_allclose(ours, np.array(image.GetDirection()).reshape(3, 3), atol=0.01)


def test_a_lean_beyond_rounding_stays_a_lean() -> None:
    series = ct_series(12, tilt_deg=12.0, orientation=AXIAL)
    source = read(with_cosines(series, (0.99, 0.0, 0.0, 0.0, 1.0, 0.0)))
    assert codes(source) == ["cosines-rounded", "tilted"]


@pytest.mark.parametrize(
    ("cosines", "said"),
    [
        ((1.03, 0, 0, 0, 1, 0), r"length 1\.03 and 1 at 90\.0 degrees"),
        ((1, 0, 0, 0.03, 1, 0), r"at 88\.3 degrees"),
        ((0, 0, 0, 0, 1, 0), r"length 0 and 1"),
        ((2, 0, 0, 0, 2, 0), r"length 2 and 2"),
        ((1, 0, 0, 1, 0, 0), r"at 0\.0 degrees"),
    ],
)
def test_cosines_beyond_rounding_are_refused_with_what_was_found(cosines: tuple[float, ...], said: str) -> None:
    with pytest.raises(GeometryMissingError, match=said + r".*to within 0\.02 and 90 degrees to within 1\.1"):
        read(with_cosines(ct_series(4), cosines))


def test_cosines_off_by_less_than_any_modality_rounds_are_not_worth_a_remark() -> None:
    assert codes(read(with_cosines(ct_series(4), (0.9996, 0, 0, 0, 1.0004, 0)))) == []


def _again(series: SyntheticSeries, seed: str, **attributes: object) -> list[EncodedInstance]:
    """The instances under new SOP Instance UIDs."""

    def rename(ds: Dataset, index: int) -> None:
        ds.SOPInstanceUID = uid_of(series.series_instance_uid, seed, index)
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    return list(series.edited(rename))


@pytest.mark.parametrize("numbers", [[5], [0], [11], [2, 3, 7], list(range(12))], ids=str)
@pytest.mark.parametrize("attributes", [{}, {"InstanceNumber": 99}, {"ContentTime": "235959"}], ids=str)
def test_a_slice_that_is_there_twice_counts_once(numbers: list[int], attributes: dict[str, object]) -> None:
    series = mr_series(12, orientation=CORONAL)
    again = _again(series, "again", **attributes)
    source = read([*series, *(again[number] for number in numbers)])
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    if len(numbers) < 12:
        assert codes(source) == ["repeated-slices"]
        assert source.remarks[0].text.startswith(f"{len(numbers)} slices are there twice")


def test_a_slice_that_is_there_twice_in_two_encodings_counts_once() -> None:
    series = ct_series(8)
    packed = _again(ct_series(8, transfer_syntax_uid=RLELossless), "packed")
    assert codes(read([*series, packed[4]])) == ["repeated-slices"]


def test_a_frame_that_is_there_twice_counts_once() -> None:
    series = mr_series(6, orientation=CORONAL)
    twice = enhanced_mr(series, frame_order=[0, 1, 2, 3, 4, 5, 3], transfer_syntax_uid=JPEG2000Lossless)
    source = read([twice])
    assert source.volume.spatial_shape[0] == 6
    assert codes(source)[0] == "repeated-slices"


def test_another_slice_at_the_same_place_is_refused_by_name() -> None:
    series = mr_series(12, orientation=CORONAL)
    other = series.edited(lambda ds, _: setattr(ds, "PixelData", ds.PixelData[::-1]))
    again = _again(other, "again")
    uids = [instance.dataset().SOPInstanceUID for instance in (series[5], again[5])]
    with pytest.raises(DuplicatePositionsError) as refused:
        read([*series, again[5]])
    assert all(uid in str(refused.value) for uid in uids)
    assert "13 planes with different values lie at 12 positions" in str(refused.value)
    assert "delete what is wrong or superfluous" in str(refused.value)


def test_blank_slices_of_two_echoes_stay_in_both() -> None:
    blank = np.zeros((6, 20, 20), np.float32)
    blank[1:5] = np.random.default_rng(5).integers(1, 900, (4, 20, 20))
    first = mr_series(6, voxels=blank, edit=lambda ds, _: setattr(ds, "EchoTime", 2.0))
    second = mr_series(6, voxels=blank[::-1], seed="second", edit=lambda ds, _: setattr(ds, "EchoTime", 9.0))
    joined = [*first, *(_of_series(instance, first) for instance in second)]
    assert [source.volume.spatial_shape[0] for source in assemble_volumes(joined)] == [6, 6]


def _of_series(instance: EncodedInstance, series: SyntheticSeries) -> EncodedInstance:
    def move(ds: Dataset) -> None:
        ds.SeriesInstanceUID, ds.StudyInstanceUID = series.series_instance_uid, series.study_instance_uid
        ds.FrameOfReferenceUID = series.frame_of_reference_uid

    return instance.edited(move)


def odd_plane(series: SyntheticSeries, **changes: object) -> EncodedInstance:
    """One plane in the middle of the series' field of view, with another size, spacing or orientation."""
    options = {"orientation": SAGITTAL, "rows": 128, "columns": 128, "spacing_mm": (1.0, 1.0, 1.0)} | changes
    made = mr_series(1, seed="odd", **options)  # type: ignore[arg-type]
    return _of_series(made[0], series)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"origin_mm": (0.0, -900.0, 64.0)}, "planes-not-run"),
        ({"rows": 60, "columns": 60, "origin_mm": (0.0, -30.0, 30.0)}, "planes-within-not-run"),
        ({"rows": 60, "columns": 60, "orientation": AXIAL}, "planes-left-out"),
        ({"rows": 16, "columns": 16, "spacing_mm": (1.0, 8.0, 8.0)}, "planes-left-out"),
    ],
)
def test_a_single_plane_unlike_the_others_is_left_out(changes: dict[str, object], code: str) -> None:
    series = mr_series(
        40, rows=64, columns=64, spacing_mm=(4.0, 4.0, 4.0), orientation=AXIAL, origin_mm=(-128, -128, -78)
    )
    source = read([odd_plane(series, **changes), *series])
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    assert codes(source) == [code]
    assert len(source.plane_sources) == 40


def test_several_odd_planes_are_left_out_where_they_are_few() -> None:
    series = mr_series(40, orientation=AXIAL)
    odd = [
        odd_plane(series, orientation=SAGITTAL),
        _of_series(mr_series(1, seed="b", rows=90, orientation=AXIAL)[0], series),
    ]
    assert codes(read([*odd, *series])) == ["planes-not-run", "planes-left-out"]
    few = mr_series(9, orientation=AXIAL)
    with pytest.raises(StackError):
        read([*(_of_series(instance, few) for instance in odd), *few])


def test_two_halves_of_different_size_are_no_odd_planes() -> None:
    first, second = ct_series(4), ct_series(2, seed="b", rows=12)
    with pytest.raises(MixedSizeError):
        read([*first, *(_of_series(instance, first) for instance in second)])


def without_place(instance: EncodedInstance) -> EncodedInstance:
    def strip(ds: Dataset) -> None:
        del ds.ImagePositionPatient, ds.ImageOrientationPatient

    return instance.edited(strip)


def test_a_thumbnail_without_a_place_is_left_out() -> None:
    series = mr_series(12, orientation=AXIAL)
    source = read([without_place(odd_plane(series, rows=64, columns=64)), *series])
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    assert codes(source) == ["pictures-left-out"]


def test_a_slice_without_a_place_is_a_hole_and_is_refused() -> None:
    series = list(mr_series(12, orientation=AXIAL))
    series[4] = without_place(series[4])
    with pytest.raises(GeometryMissingError, match=r"Image(Position|Orientation)Patient"):
        read(series)


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.128", None])
def test_pictures_of_another_kind_among_the_slices_are_told_from_other_objects(uid: str | None) -> None:
    series = mr_series(12, orientation=AXIAL)

    def change(ds: Dataset) -> None:
        if uid is None:
            ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        else:
            ds.SOPClassUID = uid

    assert codes(read([odd_plane(series).edited(change), *series])) == ["pictures-left-out"]


def test_a_map_among_the_slices_may_show_a_face() -> None:
    series = mr_series(12, orientation=AXIAL)
    (one,) = mr_series(1, seed="b", orientation=AXIAL)
    map_ = _of_series(one, series).edited(lambda ds: setattr(ds, "PixelPresentation", "COLOR"))
    assert codes(read([map_, *series])) == ["pictures-left-out"]

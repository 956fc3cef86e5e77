"""Ordinary series become volumes whose voxels lie where they were measured."""

from __future__ import annotations

import itertools
import random

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from inference.series.assemble import assemble_volumes
from inference.series.volume import SourceVolume
from tests.factories import SAGITTAL, SyntheticSeries, ct_series, encode, mr_series

AXES = [sign * np.eye(3)[axis] for axis in range(3) for sign in (1, -1)]
ORIENTATIONS = [np.concatenate([a, b]) for a, b in itertools.product(AXES, AXES) if a @ b == 0]


def indices_of_truth(volume: hd.Volume, truth: SyntheticSeries) -> NDArray[np.float64]:
    """(slice, row, column, 3) index into ``volume`` of each voxel of the truth, by way of patient space."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in truth.voxels.shape), indexing="ij"), axis=-1)
    points_mm = grid @ truth.affine[:3, :3].T + truth.affine[:3, 3]
    return (points_mm - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T


def assert_lies_where_it_was_measured(source: SourceVolume, truth: SyntheticSeries, *, within_voxels: float) -> None:
    exact = indices_of_truth(source.volume, truth)
    nearest = np.rint(exact).astype(int)
    assert np.abs(exact - nearest).max() < within_voxels
    assert source.volume.array.shape == truth.voxels.shape
    np.testing.assert_array_equal(source.volume.array[tuple(np.moveaxis(nearest, -1, 0))], truth.voxels)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: "".join(f"{int(v):+d}" for v in o))
@pytest.mark.parametrize("is_reversed", [False, True])
def test_each_axis_order_and_flip_lies_where_it_was_measured(orientation: NDArray[np.float64], is_reversed: bool):
    series = ct_series(5, rows=7, columns=6, orientation=orientation)
    instances = list(series)[::-1] if is_reversed else list(series)
    (source,) = assemble_volumes(instances)
    assert_lies_where_it_was_measured(source, series, within_voxels=1e-4)
    assert source.volume.array.dtype == np.float32
    np.testing.assert_allclose(source.volume.spacing, (3.0, 0.8, 0.7), rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.3, 8.0)] * 3),
    origin_mm=st.tuples(*[st.floats(-500, 500)] * 3),
    n_slices=st.integers(3, 9),
    seed=st.integers(0, 2**16),
)
def test_any_oblique_stack_in_any_arrival_order_lies_where_it_was_measured(
    angles, spacing_mm, origin_mm, n_slices, seed
):
    series = ct_series(
        n_slices,
        rows=6,
        columns=5,
        orientation=_rotated(angles),
        spacing_mm=spacing_mm,
        origin_mm=origin_mm,
    )
    instances = list(series)
    random.Random(seed).shuffle(instances)
    (source,) = assemble_volumes(instances)
    assert_lies_where_it_was_measured(source, series, within_voxels=1e-3)


def _rotated(angles_deg: tuple[float, float, float]) -> NDArray[np.float64]:
    """Row and column direction after rotations about x, y and z."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_deg)):
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    return rotation[:, :2].T.reshape(6)


@pytest.mark.parametrize(
    "transfer_syntax_uid",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
        JPEGLSLossless,
    ],
    ids=lambda uid: uid.name,
)
@pytest.mark.parametrize("rescale_intercept", [-1024.0, 0.0], ids=["unsigned", "signed"])
def test_lossless_transfer_syntaxes_give_the_measured_values(transfer_syntax_uid: str, rescale_intercept: float):
    series = ct_series(4, transfer_syntax_uid=transfer_syntax_uid, rescale_intercept=rescale_intercept)
    (source,) = assemble_volumes(list(series))
    assert_lies_where_it_was_measured(source, series, within_voxels=1e-4)


def test_each_slice_has_its_own_rescale():
    def scale(ds, slice_index):
        ds.RescaleSlope = 1 + slice_index
        ds.RescaleIntercept = -10.0 * slice_index

    stored = np.full((4, 6, 5), 100.0, np.float32)
    series = ct_series(4, voxels_hu=stored, rescale_intercept=0.0, edit=scale)
    (source,) = assemble_volumes(list(series))
    assert source.volume.array[:, 0, 0].tolist() == [100.0, 190.0, 280.0, 370.0]


def test_fractional_slopes_are_exact_to_float32():
    series = mr_series(3, edit=lambda ds, _: ds.update({"RescaleSlope": "0.0123", "RescaleIntercept": "-0.5"}))
    (source,) = assemble_volumes(list(series))
    expected = (series.voxels.astype(np.float64) * 0.0123 - 0.5).astype(np.float32)
    order = np.rint(indices_of_truth(source.volume, series)).astype(int)
    np.testing.assert_array_equal(source.volume.array[tuple(np.moveaxis(order, -1, 0))], expected)


def test_unused_high_bits_are_not_part_of_the_value():
    def shorten(ds, _):
        words = np.frombuffer(ds.PixelData, "<u2") & 0x0FFF | 0xA000  # an old overlay plane in bits 13 and 15
        ds.PixelData = words.astype("<u2").tobytes()
        ds.BitsStored, ds.HighBit = 12, 11

    series = ct_series(3, edit=shorten)
    (source,) = assemble_volumes(list(series))
    np.testing.assert_array_equal(source.volume.array, series.voxels)


def test_a_sign_in_bit_eleven_is_a_sign():
    def shorten(ds, _):
        words = np.frombuffer(ds.PixelData, "<u2") & 0x0FFF
        ds.PixelData = words.astype("<u2").tobytes()
        ds.BitsStored, ds.HighBit = 12, 11

    series = ct_series(3, rescale_intercept=0.0, edit=shorten)
    assert series.datasets()[0].PixelRepresentation == 1
    (source,) = assemble_volumes(list(series))
    np.testing.assert_array_equal(source.volume.array, series.voxels)


def test_every_plane_knows_its_instance_and_header():
    series = mr_series(5, orientation=SAGITTAL)
    (source,) = assemble_volumes([series[i] for i in (3, 0, 4, 1, 2)])
    assert source.modality == "MR"
    assert source.series_instance_uid == series.series_instance_uid
    assert source.volume.frame_of_reference_uid == series.frame_of_reference_uid
    by_uid = {str(ds.SOPInstanceUID): ds for ds in series.datasets()}
    for slice_index, (reference, header) in enumerate(zip(source.plane_sources, source.headers, strict=True)):
        position = (source.volume.affine @ [slice_index, 0, 0, 1])[:3]
        np.testing.assert_allclose(position, by_uid[reference.sop_instance_uid].ImagePositionPatient, atol=1e-6)
        assert reference.frame_number is None
        assert reference.sop_class_uid == header.SOPClassUID
        assert reference.sop_instance_uid == header.SOPInstanceUID
        assert header.PatientName == "Phantom^Åsa"
        assert "PixelData" not in header


def test_bulky_private_values_and_overlays_do_not_stay_in_headers():
    def add(ds, _):
        block = ds.private_block(0x0029, "SYNTHETIC", create=True)
        block.add_new(0x10, "OB", b"x" * 100_000)
        block.add_new(0x11, "OB", b"y" * 10)
        ds.add_new(0x60003000, "OW", b"\0" * 1000)

    (source,) = assemble_volumes(list(ct_series(3, edit=add)))
    header = source.headers[0]
    assert header[0x00291011].value == b"y" * 10
    assert 0x00291010 not in header
    assert 0x60003000 not in header


def test_the_same_instance_twice_counts_once():
    series = ct_series(4)
    (source,) = assemble_volumes([*series, series[1], series[1]])
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    assert [remark.code for remark in source.remarks] == ["duplicate-instances"]


def test_positions_win_over_spacing_between_slices():
    series = ct_series(4, edit=lambda ds, _: setattr(ds, "SpacingBetweenSlices", 1.5))
    (source,) = assemble_volumes(list(series))
    assert source.volume.spacing[0] == pytest.approx(3.0)
    assert [remark.code for remark in source.remarks] == ["spacing-between-slices-contradicts"]
    assert "1.500 mm" in source.remarks[0].text
    assert "3.000 mm" in source.remarks[0].text


def test_positions_rounded_by_one_percent_are_tolerated_and_remarked():
    def jitter(ds, slice_index):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, float(z) + (0.015 if slice_index % 2 else -0.015)]

    series = ct_series(8, edit=jitter)
    (source,) = assemble_volumes(list(series))
    assert_lies_where_it_was_measured(source, series, within_voxels=0.02)
    assert [remark.code for remark in source.remarks] == ["uneven-slice-positions"]


def test_a_series_without_frame_of_reference_is_remarked():
    series = ct_series(3, edit=lambda ds, _: delattr(ds, "FrameOfReferenceUID"))
    (source,) = assemble_volumes(list(series))
    assert source.volume.frame_of_reference_uid is None
    assert [remark.code for remark in source.remarks] == ["frame-of-reference-missing"]


@pytest.mark.parametrize(
    ("attributes", "code"),
    [({"RescaleType": "US"}, "not-hounsfield-units"), ({"RescaleIntercept": None}, "rescale-missing")],
)
def test_a_ct_whose_values_may_not_be_hounsfield_units_is_remarked(attributes, code):
    def edit(ds, _):
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    (source,) = assemble_volumes(list(ct_series(3, edit=edit)))
    assert [remark.code for remark in source.remarks] == [code]


def test_an_instance_without_preamble_and_meta_information_is_read():
    series = ct_series(3)
    bare = []
    for instance in series:
        begin = 144 + int.from_bytes(instance.part10[140:144], "little")
        bare.append(type(instance)(instance.name, instance.part10[begin:]))
    (source,) = assemble_volumes(bare)
    np.testing.assert_array_equal(source.volume.array, series.voxels)


def test_what_follows_the_pixel_data_is_not_read():
    series = ct_series(3)
    padded = [type(instance)(instance.name, instance.part10 + bytes(4_000_000)) for instance in series]
    (source,) = assemble_volumes(padded)
    np.testing.assert_array_equal(source.volume.array, series.voxels)


def test_two_echoes_become_two_stacks_in_the_order_of_their_echo_times():
    late = mr_series(4, seed="b", edit=lambda ds, _: _join(ds, echo_time=12.5))
    early = mr_series(4, seed="a", voxels=np.full((4, 40, 36), 7.0), edit=lambda ds, _: _join(ds, echo_time=2.5))
    first, second = assemble_volumes([*late, *early])
    assert (first.stack_number, second.stack_number) == (1, 2)
    assert np.all(first.volume.array == 7.0)
    assert_lies_where_it_was_measured(second, late, within_voxels=1e-4)
    assert {remark.code for remark in first.remarks} == {"several-stacks"}


def _join(ds, **attributes):
    ds.SeriesInstanceUID = "2.25.1"
    ds.StudyInstanceUID = "2.25.2"
    ds.FrameOfReferenceUID = "2.25.3"
    for keyword, value in attributes.items():
        setattr(ds, {"echo_time": "EchoTime"}[keyword], value)


def test_two_orientations_become_two_stacks():
    axial = ct_series(4, seed="a", edit=lambda ds, _: _join(ds))
    coronal = ct_series(5, seed="b", orientation=(1, 0, 0, 0, 0, -1), edit=lambda ds, _: _join(ds))
    volumes = assemble_volumes([instance for pair in zip(axial, coronal[:4], strict=True) for instance in pair] +
                               [coronal[4]])  # fmt: skip
    by_size = {source.volume.spatial_shape[0]: source for source in volumes}
    assert_lies_where_it_was_measured(by_size[4], axial, within_voxels=1e-4)
    assert_lies_where_it_was_measured(by_size[5], coronal, within_voxels=1e-4)


def test_other_objects_of_the_series_are_left_out_with_a_remark():
    series = ct_series(4)
    ds = series.datasets()[0]
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66"  # Raw Data Storage
    ds.SOPInstanceUID = "2.25.4"
    (source,) = assemble_volumes([*series, encode(ds)])
    assert [(remark.code, remark.text) for remark in source.remarks] == [
        ("objects-left-out", "1 of the series' objects left out: raw-data")
    ]

"""Stacks that lean, have gaps or change their distances become volumes that say so; no frame's value is changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.series.assemble import assemble_volumes
from inference.series.slice_grid import POSITION_TOLERANCE, slice_grid
from inference.series.volume import SourceVolume
from tests.factories import EncodedInstance, SyntheticSeries, ct_series, drop_slice


def volume_of(instances: Sequence[EncodedInstance]) -> SourceVolume:
    (source,) = assemble_volumes(instances)
    return source


def codes(source: SourceVolume) -> list[str]:
    return [remark.code for remark in source.remarks]


def assert_frames_keep_their_values(source: SourceVolume, series: SyntheticSeries, kept: Sequence[int]) -> None:
    assert source.frames is not None
    np.testing.assert_array_equal(source.frames.on_frames(source.volume.array), series.voxels[list(kept)])
    places = series.affine[:3, 0] * np.array(kept)[:, np.newaxis] + series.affine[:3, 3]
    np.testing.assert_allclose(source.frames.positions_mm, places, atol=1e-6)


def assert_near_their_places(source: SourceVolume, *, within_mm: float) -> None:
    """The slices of the volume that hold frames lie near them; results lie on the frames themselves."""
    assert source.frames is not None
    placed_mm = source.volume.affine[2, 3] + source.frames.first_indices[:, 0] * source.volume.spacing[0]
    assert np.abs(placed_mm - source.frames.positions_mm[:, 2]).max() <= within_mm


@pytest.mark.parametrize("tilt_deg", [-20.0, -2.0, 2.0, 18.5])
def test_a_tilt_is_measured_from_the_positions_whatever_the_header_says(tilt_deg: float):
    series = ct_series(12, tilt_deg=tilt_deg, edit=lambda ds, _: setattr(ds, "GantryDetectorTilt", 0))
    source = volume_of(list(series))
    assert codes(source) == ["tilted"]
    assert f"by {abs(tilt_deg):.1f} degrees" in source.remarks[0].text
    assert_frames_keep_their_values(source, series, range(12))


def test_frames_of_a_straightened_stack_lie_within_half_a_pixel_of_where_they_were():
    series = ct_series(12, tilt_deg=18.5)
    source = volume_of(list(series))
    assert source.frames is not None
    # 11 steps of 3 mm lean by 11.04 mm, which is 14 rows of 0.8 mm.
    assert source.volume.spatial_shape == (12, 40 + 14, 36)
    placed = source.frames.first_indices @ source.volume.affine[:3, :3].T + source.volume.affine[:3, 3]
    off_mm = np.abs(placed - source.frames.positions_mm)
    assert off_mm[:, [0, 2]].max() < 1e-6
    assert 0.2 < off_mm[:, 1].max() <= 0.4


def test_a_tilt_that_moves_the_last_slice_by_less_than_a_quarter_pixel_is_rounding():
    source = volume_of(list(ct_series(6, tilt_deg=0.5)))  # 15 mm along, 0.13 mm beside, pixels of 0.7 mm
    assert source.volume.spatial_shape == (6, 40, 36)
    assert codes(source) == []


def test_beside_straightened_frames_lies_the_smallest_value_and_no_mask():
    source = volume_of(list(ct_series(12, tilt_deg=18.5)))
    assert source.frames is not None
    covered = np.ones(source.volume.spatial_shape, dtype=bool)
    source.frames.clear_outside_frames(covered)
    assert covered.sum() == 12 * 40 * 36
    assert np.all(source.volume.array[~covered] == -1000.0)


def test_a_missing_slice_is_filled_in_between_its_neighbours_and_said():
    series = ct_series(40, rows=6, columns=5)
    source = volume_of(drop_slice(series, slice_number=17))
    assert source.volume.spatial_shape == (40, 6, 5)
    assert source.volume.spacing[0] == pytest.approx(3.0)
    assert_frames_keep_their_values(source, series, [i for i in range(40) if i != 16])
    np.testing.assert_allclose(source.volume.array[16], (series.voxels[15] + series.voxels[17]) / 2, rtol=0, atol=1e-3)
    assert codes(source) == ["missing-slices"]
    assert "1 of 40 slices are missing" in source.remarks[0].text
    assert "after slice 16, where the step is 6.00 mm, expected 3.00 mm" in source.remarks[0].text


def test_a_tilted_stack_with_a_gap_is_covered_between_its_frames_only():
    series = ct_series(40, rows=30, columns=5, tilt_deg=20.0)
    source = volume_of([series[i] for i in range(40) if i not in (17, 18)])
    assert source.frames is not None
    covered = np.ones(source.volume.spatial_shape, dtype=bool)
    source.frames.clear_outside_frames(covered)
    on_slices = covered.sum(axis=(1, 2))
    assert set(on_slices[[i for i in range(40) if i not in (17, 18)]]) == {150}
    assert 0 < on_slices[17] == on_slices[18] < 150
    assert codes(source) == ["missing-slices", "tilted"]


def test_equal_values_on_both_sides_of_a_gap_stay_exactly_equal_in_it():
    series = ct_series(20, voxels_hu=np.full((20, 5, 6), -913.0, np.float32), rescale_slope=0.1)
    source = volume_of([series[i] for i in range(20) if i not in (5, 6)])
    assert len(np.unique(source.volume.array)) == 1


def test_two_spacings_in_one_stack_meet_one_grid():
    series = ct_series(60, rows=6, columns=5, spacing_mm=(1.0, 0.8, 0.7))
    kept = [*range(0, 25, 4), *range(31, 60, 7)]
    source = volume_of([series[i] for i in kept])
    assert_frames_keep_their_values(source, series, kept)
    assert_near_their_places(source, within_mm=0.1 * 4.0)
    assert source.volume.spatial_shape[0] <= 60
    assert codes(source) == ["changing-slice-distances"]
    assert "from 4.00 to 7.00 mm" in source.remarks[0].text


def test_steps_that_drift_are_put_where_they_are():
    def drift(ds, index):
        x, y, _ = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, -700.0 + 3.0 * index + 0.0005 * index**2]

    source = volume_of(list(ct_series(60, rows=4, columns=4, edit=drift)))
    assert source.frames is not None
    assert source.frames.positions_mm[:, 2] == pytest.approx([-700 + 3 * i + 0.0005 * i**2 for i in range(60)])
    assert_near_their_places(source, within_mm=0.1 * 3.03)


def test_a_slice_beside_the_others_is_put_where_it_was_measured():
    def shift(ds, index):
        if index == 4:
            ds.ImagePositionPatient = [float(ds.ImagePositionPatient[0]) + 3.5, *ds.ImagePositionPatient[1:]]

    series = ct_series(9, edit=shift)
    source = volume_of(list(series))
    assert codes(source) == ["shifted-slices"]
    assert "slice 5 lies 3.5" in source.remarks[0].text
    assert source.volume.spatial_shape == (9, 40, 36 + 5)
    assert source.frames is not None
    np.testing.assert_array_equal(source.frames.on_frames(source.volume.array), series.voxels)
    assert source.frames.first_indices[:, 2].tolist() == [0, 0, 0, 0, 5, 0, 0, 0, 0]


@pytest.mark.parametrize("slice_number", [1, 20])
def test_the_slice_that_is_shifted_may_be_the_first_or_the_last(slice_number: int):
    def shift(ds, index):
        if index == slice_number - 1:
            ds.ImagePositionPatient = [float(ds.ImagePositionPatient[0]) + 7.0, *ds.ImagePositionPatient[1:]]

    series = ct_series(20, edit=shift)
    source = volume_of(list(series))
    assert codes(source) == ["shifted-slices"]
    assert f"slice {slice_number} lies 7.00 mm off" in source.remarks[0].text
    assert source.frames is not None
    np.testing.assert_array_equal(source.frames.on_frames(source.volume.array), series.voxels)
    shifts = source.frames.first_indices[:, 2]
    assert [shifts[slice_number - 1], *set(np.delete(shifts, slice_number - 1))] == [10, 0]  # 7 mm, columns of 0.7 mm


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.floats(0.4, 12.0), min_size=2, max_size=60))
def test_every_slice_lies_near_a_plane_of_its_own(steps: list[float]):
    along_mm = np.concatenate(([0.0], np.cumsum(steps)))
    grid = slice_grid(along_mm)
    assert np.all(np.diff(grid.slice_indices) >= 1)
    off_mm = np.abs(along_mm - grid.step_mm * grid.slice_indices)
    assert off_mm.max() <= POSITION_TOLERANCE * max(np.mean(steps), np.median(steps)) + 1e-9


@settings(max_examples=100, deadline=None)
@given(
    is_there=st.lists(st.booleans(), min_size=5, max_size=60),
    step_mm=st.floats(0.5, 10.0),
    rounding=st.lists(st.floats(-0.009, 0.009), min_size=60, max_size=60),
)
def test_an_even_stack_with_rounded_positions_and_gaps_gets_its_own_grid_back(
    is_there: list[bool], step_mm: float, rounding: list[float]
):
    kept = np.flatnonzero([True, True, *is_there, True])
    along_mm = (kept + np.array(rounding + 3 * [0.0])[kept]) * step_mm
    grid = slice_grid(along_mm - along_mm[0])
    assert grid.has_one_distance
    np.testing.assert_array_equal(grid.slice_indices, kept)
    assert grid.step_mm == pytest.approx(step_mm, rel=0.02)

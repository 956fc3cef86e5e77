"""Orientation, resampling and tiles: every voxel comes back to where it was."""

import itertools
from collections.abc import Sequence

import highdicom as hd
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.nnunet.orientation import CANONICAL, RAS, reorientation_of
from inference.nnunet.plans import Resampling
from inference.nnunet.preprocessing import nonzero_box, part_of_array, resample
from inference.nnunet.resampling import plan_resampling, separate_axis
from inference.nnunet.tiles import Planes, TileGrid, gaussian_weights, predict_planes

CUBIC = Resampling(order=3, order_z=0, force_separate_z=None, is_clipped=True)
CPU = torch.device("cpu")


def volume(orientation: str, shape: tuple[int, int, int] = (3, 4, 5)) -> hd.Volume:
    return hd.Volume.from_components(
        np.arange(np.prod(shape), dtype=np.float32).reshape(shape),
        spacing=(3.0, 2.0, 1.0),
        position=(10.0, -20.0, 30.0),
        patient_orientation=orientation,
        coordinate_system="PATIENT",
    )


ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(("HF", "AP", "LR")) for letters in itertools.product(*axes)
]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_all_48_orientations_become_canonical_and_come_back(orientation: str) -> None:
    source = volume(orientation)
    geometry = source.get_geometry()
    turn = reorientation_of(geometry)
    # highdicom reorders the same volume by itself
    expected = source.to_patient_orientation("".join(CANONICAL))
    np.testing.assert_array_equal(turn.to_canonical(source.array), expected.array)
    assert turn.spacing_mm(geometry) == pytest.approx(expected.spacing)
    np.testing.assert_array_equal(turn.to_source(turn.to_canonical(source.array)), source.array)


def test_canonical_is_the_array_that_simpleitk_orients_to_lps() -> None:
    import SimpleITK as sitk

    source = volume("RFA")
    image = sitk.GetImageFromArray(np.transpose(source.array, (2, 1, 0)))  # SimpleITK takes z, y, x of array axes 0..2
    image.SetSpacing(tuple(float(size) for size in source.spacing))
    image.SetDirection(tuple(float(value) for value in np.asarray(source.direction).ravel()))
    expected = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
    np.testing.assert_array_equal(reorientation_of(source.get_geometry()).to_canonical(source.array), expected)


def test_models_trained_on_ras_see_posterior_and_left_reversed() -> None:
    source = volume("HPL")
    turned = reorientation_of(source.get_geometry(), RAS).to_canonical(source.array)
    np.testing.assert_array_equal(turned, np.asarray(source.array)[:, ::-1, ::-1])


@pytest.mark.parametrize(
    ("spacing", "new_spacing", "expected"),
    [
        ((1, 1, 1), (2, 2, 2), None),
        ((5, 1, 1), (1, 1, 1), 0),  # the source decides first
        ((1, 1, 1), (1, 1, 4), 2),
        ((1, 4, 4), (1, 1, 1), None),  # two thick axes
        ((3, 1, 1), (1, 1, 1), None),  # three times is not more than three times
    ],
)
def test_the_thick_axis_is_found_as_nnunet_finds_it(
    spacing: Sequence[float], new_spacing: Sequence[float], expected: int | None
) -> None:
    assert separate_axis(spacing, new_spacing, None) == expected
    assert separate_axis(spacing, new_spacing, force_separate_z=False) is None


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 23)] * 3),
    new_shape=st.tuples(*[st.integers(1, 31)] * 3),
    seed=st.integers(0, 99),
)
def test_cubic_resampling_is_that_of_scikit_image(
    shape: tuple[int, int, int], new_shape: tuple[int, int, int], seed: int
) -> None:
    transform = pytest.importorskip("skimage.transform")
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    change = plan_resampling(shape, new_shape, (1, 1, 1), (1, 1, 1), CUBIC)
    ours = resample(part_of_array(values), change, None, is_clipped=True, device=CPU).numpy()
    expected = transform.resize(values.astype(float), new_shape, 3, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(ours, expected, atol=2e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_are_resampled_apart_as_nnunet_does(axis: int) -> None:
    stock = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    spacing, new_spacing = [1.0, 1.0, 1.0], [1.6, 1.3, 0.7]
    spacing[axis] = 6.0
    values = np.random.default_rng(1).normal(size=(11, 12, 13)).astype(np.float32)
    new_shape = stock.compute_new_shape(values.shape, spacing, new_spacing)
    change = plan_resampling(values.shape, new_shape, spacing, new_spacing, CUBIC)
    ours = resample(part_of_array(values), change, None, is_clipped=True, device=CPU).numpy()
    expected = stock.resample_data_or_seg_to_shape(
        values[None], new_shape, spacing, new_spacing, order=3, order_z=0, force_separate_z=None
    )[0]
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_the_box_of_what_is_not_zero() -> None:
    voxels = np.zeros((5, 6, 7), np.float32)
    assert nonzero_box(part_of_array(voxels)) is None
    voxels[1, 2, 3] = voxels[3, 4, 3] = -1.0
    assert nonzero_box(part_of_array(voxels)) == ((1, 4), (2, 5), (3, 4))


def test_gaussian_weights_are_those_of_nnunet() -> None:
    stock = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")
    expected = stock.compute_gaussian((16, 24, 10), 1.0 / 8, 10, device=CPU)
    ours = gaussian_weights((16, 24, 10))
    # float16 has eleven bits; the last may be rounded the other way
    np.testing.assert_allclose(ours.numpy(), expected.float().numpy(), rtol=1e-3)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    patch=st.tuples(*[st.integers(4, 16)] * 3),
    batch_size=st.integers(1, 3),
)
def test_tiles_of_a_network_that_changes_nothing_give_the_volume_back(
    shape: tuple[int, int, int], patch: tuple[int, int, int], batch_size: int
) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32))
    done: list[tuple[int, int]] = []
    parts: list[Planes] = list(
        predict_planes(
            values,
            TileGrid(shape, patch),
            lambda tiles: torch.cat([tiles, -tiles], 1),
            n_heads=2,
            batch_size=batch_size,
            on_tile=lambda n_done, n_tiles: done.append((n_done, n_tiles)),
        )
    )
    assert [part.start for part in parts] == list(
        itertools.accumulate([part.logits.shape[1] for part in parts[:-1]], initial=0)
    )
    logits = torch.cat([part.logits for part in parts], 1)
    torch.testing.assert_close(logits, torch.cat([values, -values]), atol=1e-5, rtol=1e-5)
    assert done[-1][0] == done[-1][1] == TileGrid(shape, patch).n_tiles


@settings(max_examples=30, deadline=None)
@given(size=st.integers(8, 300), patch=st.integers(4, 64), step=st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_tiles_start_where_nnunet_starts_them(size: int, patch: int, step: float) -> None:
    stock = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")
    expected = stock.compute_steps_for_sliding_window((max(size, patch),), (patch,), step)[0]
    assert TileGrid((size, size, size), (patch, patch, patch), step).starts[0] == expected


def test_tiles_of_one_value_run_once() -> None:
    values = torch.zeros((1, 40, 40, 40))
    values[:, :6, :6, :6] = torch.rand((6, 6, 6))
    n_run = 0

    def network(tiles: torch.Tensor) -> torch.Tensor:
        nonlocal n_run
        n_run += len(tiles)
        return tiles + 1.0

    grid = TileGrid((40, 40, 40), (8, 8, 8))
    logits = torch.cat([part.logits for part in predict_planes(values, grid, network, n_heads=1)], 1)
    torch.testing.assert_close(logits, values + 1.0)
    assert n_run < 30 < grid.n_tiles

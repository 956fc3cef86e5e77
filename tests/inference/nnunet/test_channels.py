"""Derived input channels: pure functions of raw values, independent of scale and offset."""

from __future__ import annotations

import numpy as np
import pytest

from inference.nnunet.channel_names import CHANNEL_NAMES
from inference.nnunet.channels import CHANNELS, READERS, constancy, field_of_view, image, roughness


def noisy_volume(shape: tuple[int, int, int] = (9, 11, 13)) -> np.ndarray:
    return np.random.default_rng(5).normal(100.0, 20.0, shape).astype(np.float32)


def test_the_first_channel_is_the_image_itself() -> None:
    voxels = noisy_volume()
    assert next(iter(CHANNELS)) == "image"
    assert image(voxels) is voxels


def test_constancy_is_one_inside_a_filled_block_and_zero_in_noise() -> None:
    voxels = noisy_volume()
    voxels[2:6, 3:8, 4:9] = -7.0
    share = constancy(voxels)
    assert np.all(share[3:5, 4:7, 5:8] == 1.0)
    assert share[2, 3, 4] == pytest.approx(3 / 6)  # a corner has three equal neighbours
    assert share[8, 10, 12] == 0.0


def test_constancy_counts_only_neighbours_that_exist() -> None:
    assert np.all(constancy(np.full((3, 4, 5), 2.0, np.float32)) == 1.0)


def test_a_single_slice_has_no_neighbours_along_its_axis() -> None:
    assert np.all(constancy(np.zeros((1, 4, 5), np.float32)) == 1.0)
    assert np.all(constancy(np.zeros((1, 1, 1), np.float32)) == 0.0)


def test_field_of_view_is_one_everywhere_so_that_padding_shows() -> None:
    assert np.all(field_of_view(np.zeros((2, 3, 4), np.float32)) == 1.0)


def test_roughness_is_lower_where_the_volume_was_smoothed() -> None:
    voxels = noisy_volume((24, 24, 24))
    voxels[:12] = 100.0 + 0.1 * (voxels[:12] - 100.0)
    rough = roughness(voxels)
    assert rough[:11].mean() < 0.5 * rough[13:].mean()
    assert rough.min() >= 0.0
    assert rough.max() < 1.0


def test_roughness_of_a_flat_volume_is_zero() -> None:
    assert np.all(roughness(np.full((4, 4, 4), 3.0, np.float32)) == 0.0)


@pytest.mark.parametrize("name", [name for name in CHANNELS if name != "image"])
def test_derived_channels_do_not_depend_on_scale_or_offset(name: str) -> None:
    voxels = np.round(noisy_volume())
    voxels[:4] = 0.0
    np.testing.assert_allclose(CHANNELS[name](voxels), CHANNELS[name](voxels * 4.0 - 1024.0), atol=1e-5)


@pytest.mark.parametrize("name", list(CHANNELS))
@pytest.mark.parametrize(
    "region",
    [
        (slice(None), slice(None), slice(None)),
        (slice(0, 1), slice(None), slice(None)),
        (slice(4, 7), slice(2, 9), slice(None)),
        (slice(None), slice(10, 11), slice(3, 13)),
    ],
)
def test_a_region_has_the_values_of_the_whole_channel(name: str, region: tuple[slice, slice, slice]) -> None:
    voxels = noisy_volume()
    voxels[2:6, 3:8, 4:9] = -7.0
    np.testing.assert_array_equal(READERS[name](voxels)(region), CHANNELS[name](voxels)[region])


@pytest.mark.parametrize("name", list(CHANNELS))
def test_a_single_slice_is_a_region_too(name: str) -> None:
    voxels = noisy_volume((1, 5, 6))
    region = (slice(0, 1), slice(0, 3), slice(2, 6))
    np.testing.assert_array_equal(READERS[name](voxels)(region), CHANNELS[name](voxels)[region])


def test_every_channel_has_its_name() -> None:
    assert tuple(CHANNELS) == tuple(READERS) == CHANNEL_NAMES

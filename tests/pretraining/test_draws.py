"""Patches show unaltered body, and masks that mask nothing change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining.body_table import BodyTable
from pretraining.dataset import ArrayVolume
from pretraining.draws import draw_patch, draw_start
from tests.pretraining.volumes import array_volume, ellipsoid


@pytest.mark.parametrize("shape", [(90, 100, 95), (81, 121, 70)])
def test_the_table_knows_the_share_of_body_in_any_box(shape: tuple[int, int, int]) -> None:
    mask = ellipsoid(shape)
    table = BodyTable.of(mask)
    rng = np.random.default_rng(1)
    size = (40, 44, 48)
    starts = rng.integers(-9, np.asarray(shape) - 30, size=(200, 3))
    padded = np.pad(mask, 48)
    true = [
        padded[tuple(slice(a + 48, a + 48 + n) for a, n in zip(start, size, strict=True))].mean() for start in starts
    ]
    assert np.abs(table.share(starts, size) - true).max() < 0.01
    whole = table.share(np.zeros((1, 3), np.int64), shape)
    assert whole == pytest.approx(mask.mean(), abs=1e-12)


def test_patches_show_more_body_than_uniform_ones() -> None:
    body = np.zeros((96, 96, 96), np.bool_)
    body[24:72, 24:72, 24:72] = True  # an eighth of the field of view
    volume = ArrayVolume("wide", body.astype(np.float32), body, np.zeros_like(body))
    rng = np.random.default_rng(3)
    drawn = [draw_patch(volume, (32, 32, 32), rng).body.mean() for _ in range(100)]
    uniform = [volume.body[tuple(slice(s, s + 32) for s in rng.integers(0, 65, 3))].mean() for _ in range(100)]
    assert np.mean(drawn) > 0.75 > 0.5 > np.mean(uniform)


def test_altered_voxels_count_as_no_body() -> None:
    volume = array_volume()
    starts = np.array([[0, 0, 0], [4, 10, 8]])
    shares = volume.body_share(starts, (32, 32, 32))
    for start, share in zip(starts, shares, strict=True):
        _, body, altered = volume.read((int(start[0]), int(start[1]), int(start[2])), (32, 32, 32))
        assert share == pytest.approx((body & ~altered).mean(), abs=0.01)


def test_masks_that_mask_nothing_change_no_draw() -> None:
    image = np.random.default_rng(0).normal(size=(40, 44, 48)).astype(np.float32)
    volume = ArrayVolume("v", image, np.ones(image.shape, np.bool_), np.zeros(image.shape, np.bool_))
    for seed in range(20):
        starts = [
            draw_start(volume, (20, 16, 24), np.random.default_rng(seed), use_masks=use_masks)
            for use_masks in (True, False)
        ]
        assert starts[0] == starts[1]


def test_a_volume_smaller_than_the_patch_lies_in_air() -> None:
    volume = array_volume()
    patch = draw_patch(volume, (64, 32, 64), np.random.default_rng(0))
    assert patch.image.shape == (64, 32, 64)
    outside = patch.image[~patch.body]
    assert np.count_nonzero(outside == np.float32(volume.air)) >= 32 * (64 * 64 - 44 * 48)
    drawn = np.sort(patch.image[patch.body])
    assert np.isin(drawn, volume.image[volume.body]).all()
    assert patch.body.sum() == patch.altered.sum() + (patch.body & ~patch.altered).sum()

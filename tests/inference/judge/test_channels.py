"""The judge's channels against calculations by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.judge.channels import CHANNEL_NAMES, View, judge_channels, with_appearance
from inference.judge.region import Landmarks
from inference.refine.grids import Field

SHAPE = (40, 40, 40)
CUT = (slice(14, 30), slice(14, 30), slice(14, 30))


def view_of(voxels: Field, *, removed: Field | None = None) -> View:
    """The front half is air, the other tissue; the region begins at voxel (10, 20, 30) of its volume."""
    depth = np.broadcast_to((np.arange(40) - 9.5) * 2, SHAPE).swapaxes(1, 2).astype(np.float32)
    share = np.zeros(SHAPE, np.float32) if removed is None else removed
    context = np.stack([1 - share, share, 0 * share, 0 * share])
    window = (slice(10, 50), slice(20, 60), slice(30, 70))
    return View(voxels, depth, context, window, Landmarks(150.0, 50.0, 100.0), (2.0, 2.0, 2.0))


def channel(channels: Field, name: str) -> Field:
    return channels[CHANNEL_NAMES.index(name)]


@pytest.fixture(scope="module")
def noisy() -> Field:
    """Air at 100 and tissue at 500, with white noise of deviation 10."""
    rng = np.random.default_rng(0)
    levels = np.where(np.arange(40) < 10, 100.0, 500.0)[None, :, None]
    return (levels + rng.normal(0, 10, SHAPE)).astype(np.float32)


def test_air_is_zero_and_bright_tissue_one(noisy: Field) -> None:
    value = channel(judge_channels(view_of(noisy)), "value")
    assert np.median(value[:, :5]) == pytest.approx(0, abs=0.02)
    assert np.percentile(value[:, 10:], 70) == pytest.approx(1, abs=0.02)


def test_unit_and_offset_of_values_do_not_matter(noisy: Field) -> None:
    stored = np.round(noisy)  # so that exactly the same voxels are equal
    once, again = judge_channels(view_of(stored)), judge_channels(view_of(stored * 4 - 1024))
    np.testing.assert_allclose(once, again, atol=2e-2)


def test_a_constant_is_constant_frequent_and_the_value_that_was_written(noisy: Field) -> None:
    voxels, found = noisy.copy(), np.zeros(SHAPE, np.float32)
    voxels[CUT] = 7.0
    found[CUT] = 1.0
    voxels[35, 35, 35] = 7.0  # the same value elsewhere
    channels = judge_channels(view_of(voxels, removed=found))
    assert (channel(channels, "constancy")[16:28, 16:28, 16:28] == 1).all()
    assert channel(channels, "constancy")[33, 33, 33] == 0
    share = (16**3 + 1) / 40**3
    assert channel(channels, "frequency")[20, 20, 20] == pytest.approx((np.log10(1e-5 + share) + 3) / 1.5, abs=1e-3)
    equal = channel(channels, "equal")
    assert equal[CUT].all()
    assert equal[35, 35, 35]
    assert equal.sum() == 16**3 + 1
    # Half the logarithm of how much likelier: all of the core against 1 in 50 of the tissue, which shares its bin.
    assert channel(channels, "unlike_tissue")[20, 20, 20] == pytest.approx(np.log(0.57 * 50) / 2, abs=0.4)
    assert channel(channels, "unlike_tissue")[33, 33, 33] < -1


def test_white_noise_has_the_whiteness_of_white_noise_and_its_own_turns(noisy: Field) -> None:
    channels = judge_channels(view_of(noisy))
    inside = (slice(8, 32), slice(20, 36), slice(8, 32))
    # Half of the mean squared step of white noise is its variance; of 125 voxels the estimate lacks 1 in 125.
    assert np.median(channel(channels, "whiteness")[inside]) == pytest.approx(1 - 0.7, abs=0.05)
    assert np.median(channel(channels, "turns")[inside]) == pytest.approx(0, abs=0.1)  # a mean against a median
    assert np.median(channel(channels, "noise")[inside]) == pytest.approx(0, abs=0.05)


def test_averaged_values_turn_less_and_are_less_noisy(noisy: Field) -> None:
    from scipy import ndimage

    voxels = noisy.copy()
    voxels[CUT] = ndimage.gaussian_filter(noisy, 1.5)[CUT]
    channels = judge_channels(view_of(voxels))
    assert channel(channels, "turns")[22, 22, 22] < -0.4
    assert channel(channels, "noise")[22, 22, 22] < -0.5
    assert channel(channels, "whiteness")[22, 22, 22] < -0.3


def test_places_are_millimetres_from_the_landmarks(noisy: Field) -> None:
    channels = judge_channels(view_of(noisy))
    # Voxel (5, 6, 7) of the region is (15, 26, 37) of the volume, at (30, 52, 74) mm.
    assert channel(channels, "below_vertex")[5, 6, 7] == pytest.approx(1.20)
    assert channel(channels, "behind_forehead")[5, 6, 7] == pytest.approx(0.02)
    assert channel(channels, "beside_midline")[5, 6, 7] == pytest.approx(0.26)


def test_another_answer_changes_the_appearance_alone(noisy: Field) -> None:
    voxels = noisy.copy()
    voxels[CUT] = 7.0
    view, found = view_of(voxels), np.zeros(SHAPE, np.float32)
    first = judge_channels(view)
    assert not first[-3:].any()  # the 3 mm network had found nothing
    found[CUT] = 0.9
    second = with_appearance(first, view, found)
    np.testing.assert_array_equal(first[:-3], second[:-3])
    np.testing.assert_array_equal(second, judge_channels(view, found))
    assert channel(second, "equal")[CUT].all()


@pytest.mark.parametrize("shape", [(16, 16, 16), (1, 20, 20), (2, 2, 2)])
@pytest.mark.parametrize("value", [0.0, -1000.0])
def test_a_volume_of_one_value_has_finite_channels(shape: tuple[int, int, int], value: float) -> None:
    context = np.full((4, *shape), 0.25, np.float32)
    window = tuple(slice(0, size) for size in shape)
    depth = np.zeros(shape, np.float32)
    voxels = np.full(shape, value, np.float32)
    view = View(voxels, depth, context, window, Landmarks(0, 0, 0), (2.0, 2.0, 2.0))  # type: ignore[arg-type]
    assert np.isfinite(judge_channels(view)).all()


def test_of_a_fine_region_the_network_sees_every_second_voxel_and_what_all_of_them_show(noisy: Field) -> None:
    coarse = view_of(noisy)
    fine = replace(coarse, spacing_mm=(1.0, 1.0, 2.0))
    every, seen = judge_channels(coarse), judge_channels(fine)
    assert fine.network_steps == (2, 2, 1)
    assert seen.shape == (len(CHANNEL_NAMES), 20, 20, 40)
    for name in ("value", "constancy", "turns", "noise", "depth"):
        np.testing.assert_array_equal(channel(seen, name), channel(every, name)[::2, ::2])
    below = channel(seen, "below_vertex")[:, 0, 0]
    assert below[0] == pytest.approx((150 - 10) / 100)
    np.testing.assert_allclose(np.diff(below), -0.02, rtol=1e-4)  # two voxels of 1 mm, in units of 100 mm

"""The judge's region: found from the body alone, the same whatever stands beside the head."""

from __future__ import annotations

import numpy as np
import pytest

from inference.judge.context import depth_in, resampled
from inference.judge.region import find_landmarks, region_of
from inference.refine.grids import Mask

SPACING = (2.0, 2.0, 2.0)
SHAPE = (120, 130, 110)
# A block of 160 x 180 x 140 mm: vertex at 200 mm, forehead at 40 mm, midline at 110 mm.
HEAD = (slice(20, 100), slice(20, 110), slice(20, 90))


@pytest.fixture
def body() -> Mask:
    mask = np.zeros(SHAPE, bool)
    mask[HEAD] = True
    return mask


def test_landmarks_are_vertex_forehead_and_midline_in_mm(body: Mask) -> None:
    found = find_landmarks(body, SPACING)
    assert found.vertex_mm == pytest.approx(200, abs=4)
    assert found.forehead_mm == pytest.approx(40, abs=4)
    assert found.midline_mm == pytest.approx(110, abs=1)


def test_a_couch_that_reaches_above_the_vertex_is_no_head(body: Mask) -> None:
    expected = find_landmarks(body, SPACING)
    body[:, 114:118, 10:100] = True  # a plate of 8 mm behind the head
    assert find_landmarks(body, SPACING) == expected


def test_a_face_that_was_cut_off_moves_nothing(body: Mask) -> None:
    expected = find_landmarks(body, SPACING)
    body[:65, :60] = False  # lower front, up to 70 mm below the vertex
    assert find_landmarks(body, SPACING) == expected


def test_the_region_reaches_from_the_neck_to_the_forehead_and_behind_the_ears(body: Mask) -> None:
    window = region_of(SHAPE, find_landmarks(body, SPACING), SPACING)
    assert window[0] == slice(0, 86)  # to 28 mm below the vertex at 200 mm
    assert window[1].start == 0  # 60 mm before the forehead lies outside
    assert window[1].stop == pytest.approx((40 + 140) / 2, abs=2)
    assert (window[2].start, window[2].stop) == pytest.approx((1, 109), abs=1)


@pytest.mark.parametrize("shape", [(3, 200, 200), (1, 8, 8), (40, 16, 16)])
def test_any_volume_has_a_region(shape: tuple[int, int, int]) -> None:
    for mask in (np.zeros(shape, bool), np.ones(shape, bool)):
        window = region_of(shape, find_landmarks(mask, SPACING), SPACING)
        assert all(0 <= part.start < part.stop <= size for part, size in zip(window, shape, strict=True))


def test_stretching_is_pytorchs_trilinear_interpolation() -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=(2, 7, 5, 6)).astype(np.float32)
    whole = torch.nn.functional.interpolate(torch.from_numpy(values)[None], size=(16, 11, 9), mode="trilinear")[0]
    window = (slice(2, 13), slice(0, 11), slice(4, 9))
    found = resampled(values, (16, 11, 9), window)
    np.testing.assert_allclose(found, whole.numpy()[(slice(None), *window)], atol=1e-5)


def test_depth_is_millimetres_below_the_surface(body: Mask) -> None:
    window = (slice(50, 60), slice(10, 60), slice(50, 60))
    depth = depth_in(body, SPACING, window)[5, :, 5]
    # Voxel 20 + n is the (n + 1)th inside; its centre lies 2 n + 1 mm below the surface.
    assert depth[[10, 15, 20]] == pytest.approx([1, 11, 21], abs=1.1)
    assert depth[[9, 4, 0]] == pytest.approx([-1, -11, -19], abs=1.1)

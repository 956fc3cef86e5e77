"""The classical foreground label on phantoms whose body is known."""

from __future__ import annotations

import numpy as np
import pytest

from training.inventory import Scan
from training.labels import close, fill_holes, label_foreground, largest_part

SPACING_MM = (2.0, 1.8, 2.2)


def distance_mm(shape: tuple[int, int, int], centre_mm: tuple[float, float, float]) -> np.ndarray:
    grid = np.indices(shape, dtype=np.float32)
    return np.sqrt(sum((grid[a] * SPACING_MM[a] - centre_mm[a]) ** 2 for a in range(3)))


def scan_of(voxels: np.ndarray) -> Scan:
    return Scan(voxels.astype(np.float32), np.diag([*SPACING_MM, 1.0]))


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def test_a_ball_with_cavity_and_noise_is_one_solid_at_its_half_way_surface() -> None:
    shape, centre = (60, 66, 54), (60.0, 60.0, 60.0)
    radius = distance_mm(shape, centre)
    truth = radius < 45.0
    voxels = np.where(truth, 400.0, 0.0)
    voxels[radius < 12.0] = 0.0  # a closed cavity
    voxels[(radius > 36.0) & (radius < 40.0)] = 30.0  # dark bone below a thin bright scalp
    rng = np.random.default_rng(0)
    voxels = np.hypot(voxels + rng.normal(0, 12, shape), rng.normal(0, 12, shape))
    found = label_foreground(scan_of(voxels))
    assert dice(found, truth) > 0.98
    assert found[distance_mm(shape, centre) < 40.0].all()


def test_a_ct_couch_is_not_body_and_lungs_are() -> None:
    shape, centre = (30, 80, 60), (30.0, 64.0, 64.0)
    radius = distance_mm((1, 80, 60), (0.0, *centre[1:]))
    truth = np.broadcast_to(radius < 45.0, shape)
    voxels = np.where(truth, 40.0, -1000.0)
    voxels[:, (radius < 15.0)[0]] = -850.0
    voxels[:, 66:68] = 100.0  # 13 mm behind the back
    found = label_foreground(scan_of(voxels), is_ct=True)
    assert dice(found, truth) > 0.98
    assert not found[:, 66:].any()


@pytest.mark.parametrize("plane_axis", [0, 1, 2])
def test_holes_of_planes_are_filled_even_where_they_reach_the_ends(plane_axis: int) -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 2:7, 2:7] = True
    tunnel: list[slice | int] = [4, 4, 4]
    tunnel[plane_axis] = slice(None)
    mask[tuple(tunnel)] = False
    filled = fill_holes(mask, plane_axis=plane_axis)
    assert filled.sum() == 125
    assert fill_holes(mask).sum() == 120  # the tunnel is open in 3D


def test_closing_at_the_edge_of_the_array_loses_nothing() -> None:
    mask = np.zeros((12, 12, 12), bool)
    mask[:, :6] = True
    assert (close(mask, 5.0, np.array(SPACING_MM)) == mask).all()


def test_the_largest_part_stays_and_nothing_stays_nothing() -> None:
    mask = np.zeros((6, 6, 6), bool)
    assert not largest_part(mask).any()
    mask[0, 0, 0] = mask[3:5, 3:5, 3:5] = True
    assert largest_part(mask).sum() == 8

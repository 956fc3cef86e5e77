"""The grid and the boxes of Volume Fusion have the published proportions."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining.volume_fusion.coefficients import (
    CellSizes,
    box_coefficients,
    default_boxes,
    default_cells,
    grid_coefficients,
)

DEMO = (64, 128, 128), CellSizes((5, 8, 8), (20, 32, 32))
CUBE = (96, 96, 96), CellSizes((8, 8, 8), (32, 32, 32))


def grids(patch: tuple[int, int, int], cells: CellSizes, n: int) -> list[np.ndarray]:
    whole = np.ones(patch, np.bool_)
    return [grid_coefficients(patch, cells, whole, np.random.default_rng(seed)) for seed in range(n)]


@pytest.mark.parametrize(("patch", "cells", "share"), [(*DEMO, 0.56), (*CUBE, 0.546)])
def test_the_fused_share_is_the_published_one(patch: tuple[int, int, int], cells: CellSizes, share: float) -> None:
    """Without the arrays: the share of a draw is the chosen cells' volume, by the same random numbers."""
    rng = np.random.default_rng(7)
    drawn = []
    for _ in range(20_000):
        cell = rng.integers(cells.smallest, cells.largest, endpoint=True)
        drawn.append(int(0.7 * (np.asarray(patch) // cell).prod()) * cell.prod() / np.prod(patch))
    assert np.mean(drawn) == pytest.approx(share, abs=0.01)
    measured = [(one > 0).mean() for one in grids(patch, cells, 60)]
    assert np.mean(measured) == pytest.approx(share, abs=4 * np.std(drawn) / np.sqrt(60))


def test_classes_are_equally_frequent_and_seventy_percent_of_the_cells_are_chosen() -> None:
    patch, cells = (32, 32, 32), CellSizes((8, 8, 8), (8, 8, 8))  # 64 cells, no rim
    counts = np.zeros(5)
    for drawn in grids(patch, cells, 2000):
        of_cells = drawn[4::8, 4::8, 4::8]
        assert np.array_equal(np.repeat(np.repeat(np.repeat(of_cells, 8, 0), 8, 1), 8, 2), drawn)
        counts += np.bincount(of_cells.ravel(), minlength=5)
    assert counts[1:].sum() == 2000 * int(0.7 * 64)
    assert counts[1:] / counts[1:].sum() == pytest.approx([0.25] * 4, abs=0.02)


def test_cells_without_body_are_never_chosen_and_seventy_percent_of_the_others_are() -> None:
    patch, cells = (32, 32, 32), CellSizes((8, 8, 8), (8, 8, 8))
    useful = np.zeros(patch, np.bool_)
    useful[:16] = True  # 32 of 64 cells
    useful[16:24, :8, :8][:2] = True  # a cell with exactly a quarter
    useful[24:, :8, :8][:1] = True  # and one with an eighth
    chosen = np.zeros((4, 4, 4), np.int64)
    for seed in range(200):
        drawn = grid_coefficients(patch, cells, useful, np.random.default_rng(seed))[4::8, 4::8, 4::8]
        assert np.count_nonzero(drawn) == int(0.7 * 33)
        chosen += drawn > 0
    assert chosen[:2].min() > 0
    assert chosen[2, 0, 0] > 0
    chosen[:2] = chosen[2, 0, 0] = 0
    assert not chosen.any()


def test_a_mask_of_the_whole_patch_changes_no_coefficient() -> None:
    for seed in range(20):
        whole, almost = np.ones((40, 48, 56), np.bool_), np.ones((40, 48, 56), np.bool_)
        almost[0, 0, 0] = False  # no cell falls below a quarter
        cells = default_cells((40, 48, 56))
        first, second = (
            grid_coefficients((40, 48, 56), cells, mask, np.random.default_rng(seed)) for mask in (whole, almost)
        )
        assert np.array_equal(first, second)


def test_boxes_have_all_classes_and_stay_within_the_patch() -> None:
    patch = (64, 128, 128)
    sizes = default_boxes(patch)
    assert (sizes.smallest, sizes.largest) == ((4, 8, 8), (40, 80, 80))
    drawn = [box_coefficients(patch, sizes, np.random.default_rng(seed)) for seed in range(20)]
    counts = sum(np.bincount(one.ravel(), minlength=5) for one in drawn)
    assert counts.shape == (5,)
    assert (counts > 0).all()
    assert counts[1:] / counts[1:].sum() == pytest.approx([0.25] * 4, abs=0.08)


@pytest.mark.parametrize("side", [16, 24, 32, 40, 64, 96, 128, 160])
def test_cells_fit_every_patch(side: int) -> None:
    cells = default_cells((side, side, side))
    assert 2 <= cells.smallest[0] <= cells.largest[0] <= max(4, side // 3)
    if side >= 96:
        assert (cells.smallest[0], cells.largest[0]) == (8, 32)

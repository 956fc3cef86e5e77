"""Label maps rendered with partial volume, and the body that is exact in them."""

from __future__ import annotations

import numpy as np
import pytest

from training.cohort import Cohort
from training.evaluation.measure import dice
from training.exact_body import ExactRow, average_down, exact_cases, exact_table


def test_a_voxel_is_the_mean_of_its_eight_parts() -> None:
    values = np.arange(2 * 4 * 2, dtype=np.float32).reshape(2, 4, 2)
    np.testing.assert_array_equal(average_down(values), [[[5.5], [9.5]]])


def test_the_exact_body_is_where_at_least_half_of_a_voxel_is(cohort: Cohort) -> None:
    maps = [member for member in cohort.members if member.is_labelmap]
    spacing = np.linalg.norm(maps[0].affine[:3, :3], axis=0)
    coarse = 2 * float(spacing.max())
    cases = list(exact_cases(Cohort(tuple(maps), cohort.brain_atlas), (coarse,)))
    assert [case.condition for _, case in cases] == [f"{coarse:g} mm"] * 4
    bodies = [case.body for _, case in cases]
    assert all(np.array_equal(bodies[0], body) for body in bodies)
    assert not np.array_equal(cases[0][1].voxels, cases[1][1].voxels)
    body = bodies[0]
    assert body is not None
    volume = np.count_nonzero(body) * coarse**3
    assert volume == pytest.approx(np.count_nonzero(maps[0].body) * np.prod(spacing), rel=0.05)  # voxels of 9 mm
    # Bright tissue against air: half of the way from one to the other is the surface, apart from noise and dark tissue.
    inside, outside = np.median(cases[0][1].voxels[body]), np.median(cases[0][1].voxels[~body])
    assert dice(cases[0][1].voxels > (inside + outside) / 2, body) > 0.8


def test_the_table_has_median_and_worst_by_spacing() -> None:
    rows = [ExactRow("a", 2.0, 0.9, 0.95, 0.99), ExactRow("a", 2.0, 0.8, 0.97, 0.98), ExactRow("b", 1.5, 0.7, 0.9, 1.0)]
    text = exact_table(rows)
    assert "| 2 mm | 2 | 1 | 0.850 / 0.800 | 0.960 / 0.950 | 0.985 / 0.980 |" in text
    assert "| 1.5 mm | 1 | 1 | 0.700 / 0.700 | 0.900 / 0.900 | 1.000 / 1.000 |" in text

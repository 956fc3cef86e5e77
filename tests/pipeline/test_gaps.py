"""Slices that seem to be missing, from positions alone."""

from __future__ import annotations

import math

import pytest

from dicom_node.pipeline.gaps import find_gap

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def axial(*along: float) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    return [((-100.0, -100.0, z), AXIAL) for z in along]


@pytest.mark.parametrize("missing", [1, 5, 8])
def test_one_slice_within_is_missed_and_located(missing: int) -> None:
    planes = axial(*(2.5 * number for number in range(10) if number != missing))
    said = f"1 slice seems to be missing, between {2.5 * (missing - 1):.2f} and {2.5 * (missing + 1):.2f} mm"
    assert find_gap(planes) == said


def test_several_missing_slices_are_counted() -> None:
    planes = axial(*(2.0 * number for number in range(20) if number not in (4, 5, 11)))
    assert find_gap(planes) == "3 slices seem to be missing, between 6.00 and 12.00 mm, say"


@pytest.mark.parametrize(
    "planes",
    [
        axial(*(3.0 * number for number in range(10))),  # whole
        axial(*reversed([3.0 * number for number in range(10)])),
        axial(*(3.0 * number for number in range(10)), *(3.0 * number for number in range(10))),  # two echoes
        axial(0.0, 3.0, 9.0),  # too few to know a usual step
        axial(*(3.0 * number for number in range(5)), 16.3, 19.3, 22.3),  # two stacks apart: no multiple of a step
        axial(0.0, 1.0, 2.05, 2.96, 4.0, 5.02),  # uneven, nothing missing
        axial(5.0, 5.0, 5.0, 5.0, 5.0),  # a dynamic series at one place
        axial(0.0, 1.0, 2.0, 3.0, 1e308, -1e308),  # no place in a scanner
        [((1e308, 1e308, 1e308), (1e308, 0.0, 0.0, 0.0, 1e308, 1e308))] * 5,
        [],
    ],
)
def test_nothing_is_missed_where_nothing_is_missing(planes: list[tuple[tuple[float, ...], tuple[float, ...]]]) -> None:
    assert find_gap(planes) is None


def test_orientations_are_looked_at_apart() -> None:
    sagittal = [((x, -100.0, 100.0), SAGITTAL) for x in (0.0, 4.0, 8.0, 16.0, 20.0)]
    assert find_gap([*axial(*(1.0 * number for number in range(9))), *sagittal]) is not None
    assert find_gap([*axial(0.0, 8.0, 40.0), *sagittal[:3]]) is None


def test_a_tilted_stack_is_measured_along_its_normal() -> None:
    tilt = math.radians(30)
    orientation = (1.0, 0.0, 0.0, 0.0, math.cos(tilt), math.sin(tilt))
    planes = [((0.0, 7.0 * n, 2.0 * n), orientation) for n in range(8) if n != 3]
    assert find_gap(planes) is not None
    assert find_gap([plane for n in range(8) for plane in [((0.0, 7.0 * n, 2.0 * n), orientation)]]) is None

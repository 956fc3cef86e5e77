"""What the judge says of smoothed and replaced tissue counts only if it is a whole face, and sure."""

from __future__ import annotations

import numpy as np
import pytest

from inference.judge.altered_face import altered_face
from inference.judge.judge import Judgement

SHAPE, SPACING_MM = (70, 60, 60), (2.0, 2.0, 2.0)
NO_BODY = np.zeros(SHAPE, bool)
WINDOW = (slice(4, 70), slice(0, 50), slice(5, 60))
FACE = (slice(10, 40), slice(5, 25), slice(10, 40))  # in the window: 144 mL
LARGER_FACE = (slice(10, 46), slice(5, 25), slice(10, 40))  # 173 mL
EAR = (slice(10, 20), slice(35, 46), slice(0, 10))  # 9 mL
REMOVED, SMOOTHED, REPLACED = 1, 2, 3


def judgement(*found: tuple[tuple[slice, slice, slice], dict[int, float]]) -> Judgement:
    probabilities = np.zeros((4, *(part.stop - part.start for part in WINDOW)), np.float32)
    probabilities[0] = 1.0
    for place, values in found:
        for label, value in values.items():
            probabilities[(label, *place)] = value
        probabilities[(0, *place)] = 1 - sum(values.values())
    return Judgement(probabilities, WINDOW)


@pytest.mark.parametrize("values", [{REPLACED: 0.95}, {SMOOTHED: 0.95}, {SMOOTHED: 0.5, REPLACED: 0.45}])
def test_a_face_is_found_in_its_place(values: dict[int, float]) -> None:
    expected = np.zeros(SHAPE, bool)
    expected[14:44, 5:25, 15:45] = True
    np.testing.assert_array_equal(altered_face(judgement((FACE, values)), NO_BODY, SPACING_MM).mask, expected)


def test_other_parts_of_it_belong_to_it_but_for_specks() -> None:
    ear, speck = (slice(10, 16), slice(40, 46), slice(0, 4)), (slice(60, 62), slice(40, 42), slice(0, 2))
    found = altered_face(
        judgement(*((place, {REPLACED: 0.95}) for place in (FACE, ear, speck))), NO_BODY, SPACING_MM
    ).mask
    assert np.count_nonzero(found) == 30 * 20 * 30 + 6 * 6 * 4


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ((slice(10, 30), slice(5, 25), slice(10, 40)), {REPLACED: 0.95}),  # 96 mL
        (FACE, {REPLACED: 0.89}),
        (FACE, {REPLACED: 0.65}),
        (FACE, {REMOVED: 0.5, REPLACED: 0.48}),
    ],
)
def test_less_than_a_face_or_less_than_sure_is_nothing(
    place: tuple[slice, slice, slice], values: dict[int, float]
) -> None:
    assert not altered_face(judgement((place, values)), NO_BODY, SPACING_MM).mask.any()


def test_two_halves_of_a_face_that_do_not_touch_are_nothing() -> None:
    upper, lower = (slice(28, 44), *FACE[1:]), (slice(10, 26), *FACE[1:])
    found = judgement((upper, {REPLACED: 0.95}), (lower, {REPLACED: 0.95}))
    assert not altered_face(found, NO_BODY, SPACING_MM).mask.any()


def test_a_face_among_other_altered_tissue_is_a_smooth_scan() -> None:
    ear, neck = (slice(10, 20), slice(35, 45), slice(0, 10)), (slice(50, 60), slice(10, 20), slice(10, 20))
    found = judgement(*((place, {REPLACED: 0.95}) for place in (FACE, ear, neck)))  # 144, 8 and 8 mL
    assert not altered_face(found, NO_BODY, SPACING_MM).mask.any()


@pytest.mark.parametrize(
    ("found", "is_sure"),
    [
        ([(LARGER_FACE, {REPLACED: 0.95})], True),
        ([(FACE, {REPLACED: 0.95})], False),  # 144 mL
        ([(LARGER_FACE, {REPLACED: 0.92})], False),
        ([(LARGER_FACE, {REPLACED: 0.95}), (EAR, {REPLACED: 0.95})], False),  # 0.95 of all
    ],
)
def test_a_verdict_rests_only_on_more_than_what_is_drawn(
    found: list[tuple[tuple[slice, slice, slice], dict[int, float]]], is_sure: bool
) -> None:
    face = altered_face(judgement(*found), NO_BODY, SPACING_MM)
    assert face.mask.any()
    assert face.is_sure == is_sure


def test_skin_in_front_of_an_altered_face_belongs_to_it() -> None:
    body = np.zeros(SHAPE, bool)
    body[:, 2:50] = True
    body[14:20, 0:2] = True  # a nose
    found = altered_face(judgement((FACE, {REPLACED: 0.95})), body, SPACING_MM).mask
    expected = np.zeros(SHAPE, bool)
    expected[14:44, 2:25, 15:45] = True
    expected[14:20, 0:2, 15:45] = True
    np.testing.assert_array_equal(found, expected)
    far = (slice(10, 40), slice(12, 32), slice(10, 40))
    found = altered_face(judgement((far, {REPLACED: 0.95})), body, SPACING_MM).mask
    assert not found[:, :6].any()  # 12 mm are six rows
    assert found[20, 6:32, 20].all()

"""The judge draws the edge of an area that the rules found, on a phantom whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.refine.anonymized import RefinedArea
from inference.refine.grids import DecidedBy
from inference.refine.judged import DrawnArea, JudgedArea, draw_with_judge
from inference.refine.masks import refine_masks
from tests.phantom_head import SHAPE, SPACING_MM, Phantom, coarse_contour, phantom

Mask = NDArray[np.bool_]


WHOLE = (slice(0, SHAPE[0]), slice(0, SHAPE[1]), slice(0, SHAPE[2]))


@pytest.fixture(scope="module")
def head() -> Phantom:
    return phantom()


@pytest.fixture(scope="module")
def face() -> Mask:
    """The lower half of the front, with the air before it."""
    mask = np.zeros(SHAPE, bool)
    mask[:40, :40] = True
    return mask


def nothing() -> Mask:
    return np.zeros(SHAPE, bool)


def by_rules(mask: Mask, fill_value: float | None = None) -> DrawnArea:
    how = DecidedBy.VALUE_STATISTICS if fill_value is None else DecidedBy.NATIVE_EVIDENCE
    return DrawnArea(RefinedArea(mask, mask, how, fill_value), mask)


def judged_as(removed: Mask | None = None, altered: Mask | None = None, *, believed: Mask | None = None) -> JudgedArea:
    """What a judge finds that is sure of all that it finds, but of no part without other evidence."""
    removed = nothing() if removed is None else removed
    altered = nothing() if altered is None else altered
    return JudgedArea(removed, altered, removed | altered, nothing() if believed is None else believed, WHOLE)


def test_where_no_value_repeats_the_judge_draws_the_edge(head: Phantom, face: Mask) -> None:
    removed = face & head.body
    speck = nothing()
    speck[70, 60:65, 40:44] = True  # 20 voxels of 5.4 mm3: 0.1 mL
    loose = by_rules(coarse_contour(removed, 3.0) & head.body)
    found = draw_with_judge(loose, judged_as(removed | speck), head.body, SPACING_MM)
    np.testing.assert_array_equal(found.whole, removed)
    np.testing.assert_array_equal(found.filled.shown, removed)
    assert found.filled.decided_by is DecidedBy.JUDGE


def test_what_no_rule_found_is_not_taken_from_the_judge_unless_it_is_sure(head: Phantom, face: Mask) -> None:
    """A judge alone paints zeroed air and stripped heads."""
    removed, eye = face & head.body, nothing()
    eye[30:35, 20:30, 30:40] = True
    found = draw_with_judge(by_rules(nothing()), judged_as(removed), head.body, SPACING_MM)
    assert not found.whole.any()
    found = draw_with_judge(by_rules(nothing()), judged_as(removed, believed=eye), head.body, SPACING_MM)
    np.testing.assert_array_equal(found.whole, eye)
    np.testing.assert_array_equal(found.filled.shown, eye)
    assert found.filled.decided_by is DecidedBy.JUDGE


def test_equal_values_are_found_from_what_the_judge_is_sure_of(head: Phantom, face: Mask) -> None:
    """As in a cut that the 3 mm network does not see at all."""
    coarse = coarse_contour(face & head.body, 2.0)
    refined = refine_masks(
        np.where(face, np.float32(0), head.voxels),
        head.body,
        nothing(),
        SPACING_MM,
        foreground=False,
        anonymized=True,
        is_ct=False,
        judged=judged_as(coarse, believed=coarse),
    )
    np.testing.assert_array_equal(refined.anonymized, face)
    assert refined.fill_value == 0.0
    assert refined.unconfirmed is None


def test_noise_that_only_statistics_see_is_no_area(head: Phantom, face: Mask) -> None:
    """As of a cheek that a signal void darkened, in a noisy scan."""
    neck = nothing()
    neck[2:20, 60:80, 30:60] = True
    removed = face & head.body
    both = by_rules(removed | neck)
    found = draw_with_judge(both, judged_as(removed), head.body, SPACING_MM)
    np.testing.assert_array_equal(found.whole, removed)
    np.testing.assert_array_equal(found.filled.shown, removed)
    assert not draw_with_judge(by_rules(neck), judged_as(), head.body, SPACING_MM).whole.any()
    elsewhere = replace(judged_as(), window=(slice(20, 80), *WHOLE[1:]))  # the judge did not look there
    np.testing.assert_array_equal(draw_with_judge(by_rules(neck), elsewhere, head.body, SPACING_MM).whole, neck)
    np.testing.assert_array_equal(draw_with_judge(by_rules(neck, 0.0), judged_as(), head.body, SPACING_MM).whole, neck)


def test_what_the_rules_found_in_the_air_stays(head: Phantom, face: Mask) -> None:
    left = head.body & ~face
    rules = by_rules(face | np.roll(face, 4, axis=1) & head.body)  # too deep by four voxels
    near = face.copy()
    near[:, :12] = False  # far in front of the face the judge sees nothing
    found = draw_with_judge(rules, judged_as(near), left, SPACING_MM)
    np.testing.assert_array_equal(found.whole, face)


def test_a_judge_that_missed_most_draws_nothing(head: Phantom, face: Mask) -> None:
    rules = by_rules(face & head.body)
    other = nothing()
    other[:18] = True
    found = draw_with_judge(rules, judged_as(other & head.body), head.body, SPACING_MM)
    np.testing.assert_array_equal(found.whole, rules.whole)


def test_equal_values_stay_exact_and_far_parts_are_added(head: Phantom, face: Mask) -> None:
    """As with a tool that zeroes the face and takes off the ears with a soft edge."""
    exact = by_rules(face, fill_value=0.0)
    wrong_edge = np.roll(face, 2, axis=1)
    ear = nothing()
    ear[50:58, 50:60, 60:68] = True
    found = draw_with_judge(exact, judged_as(wrong_edge | ear, believed=ear), head.body, SPACING_MM)
    np.testing.assert_array_equal(found.whole, face | ear)
    np.testing.assert_array_equal(found.filled.shown, face | ear)
    assert found.filled.fill_value == 0.0


def test_far_parts_that_the_judge_is_not_sure_of_are_left_out(head: Phantom, face: Mask) -> None:
    ear = nothing()
    ear[50:58, 50:60, 60:68] = True
    doubtful = JudgedArea(face | ear, nothing(), face, nothing(), WHOLE)
    np.testing.assert_array_equal(draw_with_judge(by_rules(face, 0.0), doubtful, head.body, SPACING_MM).whole, face)


def test_far_parts_whose_voxels_are_sure_but_not_as_a_whole_are_left_out(head: Phantom, face: Mask) -> None:
    ear = nothing()
    ear[50:58, 50:60, 60:68] = True
    found = draw_with_judge(by_rules(face, 0.0), judged_as(face | ear, believed=face), head.body, SPACING_MM)
    np.testing.assert_array_equal(found.whole, face)


def test_noise_in_a_large_part_needs_no_witness(head: Phantom) -> None:
    """The judge takes a box of noise before the head for the end of the field of view."""
    box = nothing()
    box[:, :40] = True  # 1555 mL
    found = draw_with_judge(by_rules(box), judged_as(), head.body, SPACING_MM)
    np.testing.assert_array_equal(found.whole, box)


def test_tissue_that_was_only_smoothed_is_not_drawn_here(head: Phantom, face: Mask) -> None:
    rules = by_rules(coarse_contour(face & head.body, 3.0))
    found = draw_with_judge(rules, judged_as(altered=face & head.body), head.body, SPACING_MM)
    np.testing.assert_array_equal(found.whole, rules.whole)


def test_altered_tissue_next_to_removed_stays_body(head: Phantom, face: Mask) -> None:
    removed = face & head.body
    altered = np.roll(removed, 40, axis=0) & head.body & ~removed
    altered[60:] = False
    found = draw_with_judge(by_rules(removed | altered), judged_as(removed, altered), head.body, SPACING_MM)
    np.testing.assert_array_equal(found.whole, removed | altered)
    np.testing.assert_array_equal(found.filled.mask, removed)


def test_noise_that_a_tool_wrote_is_no_body_up_to_the_judges_edge(head: Phantom, face: Mask) -> None:
    voxels = np.where(face, np.random.default_rng(5).normal(300, 60, SHAPE), head.voxels).astype(np.float32)
    refined = refine_masks(
        voxels,
        head.body,
        coarse_contour(face & head.body, 3.0),
        SPACING_MM,
        foreground=True,
        anonymized=True,
        is_ct=False,
        judged=judged_as(face),
    )
    np.testing.assert_array_equal(refined.anonymized, face)
    assert not refined.foreground[face].any()
    assert refined.decided_by["anonymized"] is DecidedBy.JUDGE


def test_what_only_the_judge_found_is_told_apart(head: Phantom, face: Mask) -> None:
    ear = nothing()
    ear[50:58, 50:60, 60:68] = True
    voxels = np.where(face, np.float32(0), head.voxels)
    refined = refine_masks(
        voxels,
        head.body,
        coarse_contour(face & head.body, 3.0),
        SPACING_MM,
        foreground=False,
        anonymized=True,
        is_ct=False,
        judged=judged_as(face | ear, believed=ear),
    )
    assert refined.unconfirmed is not None
    np.testing.assert_array_equal(refined.unconfirmed, ear)


def test_what_a_network_calls_altered_stays_as_it_drew_it_and_is_still_body(head: Phantom, face: Mask) -> None:
    altered = coarse_contour(face & head.body, 3.0)
    refined = refine_masks(
        head.voxels, head.body, altered, SPACING_MM, foreground=True, anonymized=True, is_ct=False, altered=altered
    )
    np.testing.assert_array_equal(refined.anonymized, altered)
    assert np.mean(refined.foreground[altered & (head.depth_mm() > 4.0)]) > 0.99


@pytest.mark.parametrize("is_sure", [True, False])
def test_an_altered_face_is_confirmed_if_the_judge_is_sure(head: Phantom, face: Mask, is_sure: bool) -> None:
    refined = refine_masks(
        head.voxels,
        head.body,
        nothing(),
        SPACING_MM,
        foreground=False,
        anonymized=True,
        is_ct=False,
        judged_altered=face,
        altered_is_sure=is_sure,
    )
    np.testing.assert_array_equal(refined.anonymized, face)
    assert (refined.unconfirmed is None) == is_sure

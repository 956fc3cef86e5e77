"""The judge's area joined with equal values, on a phantom whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.refine.grids import DecidedBy
from inference.refine.judged import JudgedArea, join_with_equal_values
from inference.refine.masks import refine_masks
from tests.phantom_head import SHAPE, SPACING_MM, Phantom, coarse_contour, dice, phantom

Mask = NDArray[np.bool_]


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


def test_equal_values_draw_the_edge_that_the_judge_missed_by_voxels(head: Phantom, face: Mask) -> None:
    voxels = np.where(face, np.float32(0), head.voxels)
    judged = JudgedArea(coarse_contour(face & head.body, 3.0), nothing())
    found = join_with_equal_values(voxels, judged, head.body, SPACING_MM, is_ct=False)
    assert found.decided_by is DecidedBy.NATIVE_EVIDENCE
    assert found.fill_value == 0.0
    assert dice(judged.removed & head.body, face & head.body) < 0.97
    assert dice(found.mask & head.body, face & head.body) > 0.999


def test_where_no_value_repeats_the_judge_is_believed_but_for_specks(head: Phantom, face: Mask) -> None:
    voxels = np.where(face, np.random.default_rng(5).normal(300, 60, SHAPE), head.voxels).astype(np.float32)
    removed = face & head.body
    speck = nothing()
    speck[70, 60:65, 40:44] = True  # 20 voxels of 5.4 mm3: 0.1 mL
    found = join_with_equal_values(voxels, JudgedArea(removed | speck, nothing()), head.body, SPACING_MM, is_ct=False)
    assert found.decided_by is DecidedBy.JUDGE
    assert found.fill_value is None
    np.testing.assert_array_equal(found.mask, removed)
    np.testing.assert_array_equal(found.shown, removed)


def test_another_face_next_to_written_zeros_stays(head: Phantom, face: Mask) -> None:
    """As a tool that zeroes what lies in front of the face that it puts in."""
    exchanged = face & head.body
    exchanged[:, :30] = False
    zeros = face & ~exchanged
    voxels = np.where(zeros, np.float32(0), head.voxels)
    judged = JudgedArea(zeros & coarse_contour(head.body, 2.0), exchanged)
    found = join_with_equal_values(voxels, judged, head.body, SPACING_MM, is_ct=False)
    assert found.fill_value == 0.0
    assert dice(found.mask & head.body, face & head.body) > 0.99
    assert not found.shown[exchanged].any()


def test_an_exchanged_face_is_anonymised_area_and_body_at_once(head: Phantom, face: Mask) -> None:
    exchanged = face & head.body
    refined = refine_masks(
        head.voxels,
        head.body,
        nothing(),
        SPACING_MM,
        foreground=True,
        anonymized=True,
        is_ct=False,
        judged=JudgedArea(nothing(), exchanged),
    )
    np.testing.assert_array_equal(refined.anonymized, exchanged)
    assert refined.foreground[exchanged].mean() > 0.99
    assert refined.decided_by["anonymized"] is DecidedBy.JUDGE


def test_noise_that_a_tool_wrote_is_no_body(head: Phantom, face: Mask) -> None:
    removed = face & head.body
    voxels = np.where(face, np.random.default_rng(5).normal(300, 60, SHAPE), head.voxels).astype(np.float32)
    refined = refine_masks(
        voxels,
        head.body,
        nothing(),
        SPACING_MM,
        foreground=True,
        anonymized=True,
        is_ct=False,
        judged=JudgedArea(removed, nothing()),
    )
    assert not refined.foreground[removed].any()

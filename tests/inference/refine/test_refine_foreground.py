"""The body's surface is found half-way between tissue and air, and the body stays one solid."""

import numpy as np
import pytest
from scipy import ndimage

from inference.refine.foreground import refine_foreground
from inference.refine.grids import DecidedBy
from inference.refine.masks import refine_masks
from tests.phantom_head import SHAPE, SPACING_MM, coarse_contour, dice, phantom

NOTHING = np.zeros(SHAPE, bool)


@pytest.mark.parametrize(("air", "tissue", "is_ct"), [(0.0, 600.0, False), (-1000.0, 40.0, True), (200.0, 900.0, True)])
def test_the_surface_moves_to_the_half_way_level(air: float, tissue: float, is_ct: bool) -> None:
    head = phantom(air=air, tissue=tissue)
    contour = coarse_contour(head.body, 2.0)
    refined = refine_foreground(head.voxels, contour, np.zeros(SHAPE, bool), SPACING_MM, is_ct=is_ct)
    assert refined.decided_by is DecidedBy.NATIVE_EVIDENCE
    assert dice(contour, head.body) < 0.99
    assert dice(refined.mask, head.body) > 0.995


@pytest.mark.parametrize("skin", [0.25, 0.5, 1.0])
def test_dark_skin_is_body_up_to_half_of_its_own_step(skin: float) -> None:
    head = phantom()
    is_skin = head.body & (head.depth_mm() <= 4.0)
    sharp = np.where(head.body, np.where(is_skin, 600 * skin, 600), 0)
    blurred = ndimage.gaussian_filter(sharp, 0.6) + np.random.default_rng(2).normal(0, 6, SHAPE)
    refined = refine_foreground(blurred.astype(np.float32), coarse_contour(head.body, 2.0), NOTHING, SPACING_MM)
    assert dice(refined.mask, head.body) > 0.995


def test_dark_bone_under_a_thin_scalp_stays_body() -> None:
    head = phantom()
    refined = refine_foreground(head.voxels, head.body, np.zeros(SHAPE, bool), SPACING_MM)
    assert refined.mask[head.depth_mm() > 4.0].all()


def test_what_lies_beside_the_body_is_not_taken_in() -> None:
    head = phantom(air=-1000.0, tissue=40.0)
    voxels = head.voxels.copy()
    bottom = np.flatnonzero(head.body.any(axis=(0, 2)))[-1]
    voxels[:, bottom + 5 : bottom + 8] = 0.0  # a table 7 mm behind the head
    refined = refine_foreground(voxels, coarse_contour(head.body, 1.0), np.zeros(SHAPE, bool), SPACING_MM, is_ct=True)
    assert not refined.mask[:, bottom + 5 : bottom + 8].any()


def test_without_contrast_the_networks_contour_stays() -> None:
    voxels = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    contour = phantom().body
    refined = refine_foreground(voxels, contour, np.zeros(SHAPE, bool), SPACING_MM)
    assert refined.decided_by is DecidedBy.NETWORK
    np.testing.assert_array_equal(refined.mask, contour)


@pytest.mark.parametrize("contour", [np.zeros(SHAPE, bool), np.ones(SHAPE, bool)])
def test_an_empty_and_a_full_contour_stay(contour: np.ndarray) -> None:
    refined = refine_foreground(phantom().voxels, contour, np.zeros(SHAPE, bool), SPACING_MM)
    np.testing.assert_array_equal(refined.mask, contour)


def test_a_bright_fill_is_no_body_and_each_mask_is_refined_only_where_wanted() -> None:
    head = phantom()
    cut = np.zeros(SHAPE, bool)
    cut[:, :35] = True
    voxels = np.where(cut, np.float32(900.0), head.voxels)
    left = head.body & ~cut
    body, area = coarse_contour(left, 1.0), coarse_contour(cut & head.body, 1.0)
    both = refine_masks(voxels, body, area, SPACING_MM, foreground=True, anonymized=True, is_ct=False)
    assert both.decided_by == {"foreground": "native-evidence", "anonymized": "native-evidence"}
    assert both.fill_value == 900.0
    assert not (both.foreground & cut).any()
    assert dice(both.foreground, left) > 0.99
    neither = refine_masks(voxels, body, area, SPACING_MM, foreground=False, anonymized=False, is_ct=False)
    assert neither.foreground is body
    assert neither.anonymized is area


def test_a_scalp_that_the_network_lost_beyond_dark_bone_comes_back_in_mr_only() -> None:
    head = phantom()
    crown = np.zeros(SHAPE, bool)
    crown[62:] = True
    lost = coarse_contour(head.body, 1.0) & ~(crown & (head.depth_mm() < 7.0))
    assert dice(lost, head.body) < 0.99
    assert dice(refine_foreground(head.voxels, lost, NOTHING, SPACING_MM).mask, head.body) > 0.995
    hounsfield = phantom(air=-1000.0, tissue=40.0)  # there a couch may be what is bright beside the body
    grown = refine_foreground(hounsfield.voxels, lost, NOTHING, SPACING_MM, is_ct=True).mask
    assert dice(grown, head.body) < 0.995


def test_a_lost_scalp_does_not_come_back_where_a_tool_wrote() -> None:
    head = phantom()
    crown = np.zeros(SHAPE, bool)
    crown[62:] = True
    lost = head.body & ~(crown & (head.depth_mm() < 7.0))
    refined = refine_foreground(head.voxels, lost, NOTHING, SPACING_MM, anonymized=crown & ~lost)
    assert np.count_nonzero(refined.mask & crown & ~lost) < 0.25 * np.count_nonzero(head.body & crown & ~lost)


def test_a_body_cut_out_of_its_scan_is_all_that_was_not_set_to_zero() -> None:
    head = phantom()
    brain = head.depth_mm() > 18.0
    folds = brain & (ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 1, SHAPE), 2.0) > 0.08)
    voxels = np.where(brain, np.where(folds, np.float32(120.0), head.voxels), np.float32(0.0))  # dark water
    refined = refine_foreground(voxels, coarse_contour(brain, 1.0), NOTHING, SPACING_MM)
    assert dice(refined.mask, brain) > 0.997


def test_a_couch_that_the_network_took_in_ct_is_left_out_and_ears_are_not() -> None:
    head = phantom(air=-1000.0, tissue=40.0)
    voxels, body = head.voxels.copy(), head.body.copy()
    bottom = int(np.flatnonzero(body.any(axis=(0, 2)))[-1])
    ear = np.zeros(SHAPE, bool)
    side = int(np.flatnonzero(body[40, 60])[0])
    ear[34:46, 55:65, side - 6 : side + 2] = True
    voxels[ear], body = 40.0, body | ear
    couch = np.zeros(SHAPE, bool)
    couch[:, bottom : bottom + 4] = True  # 6 mm thick, and the head lies on it
    voxels[couch & ~body] = 0.0
    refined = refine_foreground(voxels, body | couch, NOTHING, SPACING_MM, is_ct=True).mask
    assert dice(body | couch, body) < 0.95
    assert dice(refined, body) > 0.985
    assert np.count_nonzero(refined & ear) > 0.9 * np.count_nonzero(ear)


def test_dark_bone_that_a_cut_lays_open_stays_body() -> None:
    head = phantom()
    cut = np.zeros(SHAPE, bool)
    cut[:, :35] = True
    voxels = np.where(cut, np.float32(0.0), head.voxels)
    left = head.body & ~cut
    at_cut = np.zeros(SHAPE, bool)
    at_cut[:, 35:37] = True
    bone = left & at_cut & (head.depth_mm() > 3.0) & (voxels < 0.3 * np.median(head.voxels[head.body]))
    assert np.count_nonzero(bone) > 100
    both = refine_masks(
        voxels,
        coarse_contour(left, 1.0),
        coarse_contour(cut & head.body, 1.0),
        SPACING_MM,
        foreground=True,
        anonymized=True,
        is_ct=False,
    )
    assert both.fill_value == 0.0
    assert both.foreground[bone].mean() > 0.95  # the rest lies outside the coarse contour
    assert not (both.foreground & cut).any()
    assert dice(both.foreground, left) > 0.995

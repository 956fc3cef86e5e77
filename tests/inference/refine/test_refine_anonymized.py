"""A tool's exact values show the area to the voxel, and nothing grows where there are none."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.anonymized import refine_anonymized
from inference.refine.grids import DecidedBy
from tests.phantom_head import SHAPE, SPACING_MM, Phantom, coarse_contour, dice, phantom


def face_cut() -> NDArray[np.bool_]:
    """Everything in front of and below an oblique plane, to the edges of the array."""
    slices, rows, _ = np.indices(SHAPE)
    return (slices * SPACING_MM[0] + rows * SPACING_MM[1]) < 105.0


def defaced(head: Phantom, cut: NDArray[np.bool_], fill: float) -> NDArray[np.float32]:
    return np.where(cut, np.float32(fill), head.voxels)


@pytest.mark.parametrize("fill", [0.0, -1000.0, 137.0])
def test_in_noisy_air_the_whole_exact_region_is_the_tools(fill: float) -> None:
    head, cut = phantom(), face_cut()
    proposal = coarse_contour(cut & head.body, 1.5)
    refined = refine_anonymized(defaced(head, cut, fill), proposal, head.body & ~cut, SPACING_MM)
    assert refined.decided_by is DecidedBy.NATIVE_EVIDENCE
    assert refined.fill_value == fill
    assert dice(proposal, cut) < 0.75
    assert dice(refined.mask, cut) > 0.9995


def test_where_the_air_was_already_zero_a_small_area_is_exact_in_the_head_and_stays_near_it() -> None:
    head, cut = phantom(noise=0.0), face_cut()
    proposal = coarse_contour(cut & head.body, 1.5)
    refined = refine_anonymized(defaced(head, cut, 0.0), proposal, head.body & ~cut, SPACING_MM)
    assert refined.decided_by is DecidedBy.NATIVE_EVIDENCE
    assert dice(refined.mask & head.body, cut & head.body) > 0.99
    height_mm = ndimage.distance_transform_edt(~proposal, sampling=SPACING_MM)
    assert height_mm[refined.mask].max() < 8.0


def test_where_the_air_was_already_zero_a_large_area_is_exact_in_the_head_and_stays_near_it() -> None:
    head = phantom(noise=0.0)
    cut = np.zeros(SHAPE, bool)
    cut[:, :50] = True
    proposal = coarse_contour(cut & head.body, 1.5)
    refined = refine_anonymized(defaced(head, cut, 0.0), proposal, head.body & ~cut, SPACING_MM)
    assert dice(refined.mask & head.body, cut & head.body) > 0.995
    height_mm = ndimage.distance_transform_edt(~proposal, sampling=SPACING_MM)
    assert height_mm[refined.mask].max() < 30.0


def test_a_value_that_is_not_the_airs_shows_the_whole_area_however_constant_the_air_is() -> None:
    head, cut = phantom(noise=0.0), face_cut()
    ears = np.zeros(SHAPE, bool)
    ears[36:46, 55:68, 8:18] = True
    proposal = coarse_contour(cut & head.body, 1.5)
    refined = refine_anonymized(defaced(head, cut | ears, 137.0), proposal, head.body & ~cut & ~ears, SPACING_MM)
    assert dice(refined.mask, cut | ears) > 0.9995


def test_ears_that_the_network_missed_are_found_by_their_value_in_noisy_air() -> None:
    head, cut = phantom(), face_cut()
    ears = np.zeros(SHAPE, bool)
    ears[36:46, 55:68, 8:18] = True
    ears[36:46, 55:68, -18:-8] = True
    assert (ears & head.body).any()
    proposal = coarse_contour(cut & head.body, 1.5)
    refined = refine_anonymized(defaced(head, cut | ears, 0.0), proposal, head.body & ~cut & ~ears, SPACING_MM)
    assert dice(refined.mask, cut | ears) > 0.9995


def test_ears_full_of_noise_that_the_network_missed_are_found() -> None:
    head, cut = phantom(), face_cut()
    ears = np.zeros(SHAPE, bool)
    ears[34:50, 55:78, 2:18] = True
    ears[34:50, 55:78, -18:-2] = True
    noisy = np.where(cut | ears, np.random.default_rng(3).normal(50, 20, SHAPE), head.voxels).astype(np.float32)
    proposal = coarse_contour(cut & head.body, 1.5)
    refined = refine_anonymized(noisy, proposal, head.body & ~cut & ~ears, SPACING_MM)
    assert dice(refined.mask & ears, ears) > 0.9
    assert dice(refined.mask, cut | ears) > 0.98


@pytest.mark.parametrize("body_with_noise", [False, True])
def test_a_fill_of_noise_is_found_as_a_whole_in_the_head_and_in_the_air(body_with_noise: bool) -> None:
    head, cut = phantom(), face_cut()
    noisy = np.where(cut, np.random.default_rng(3).normal(50, 20, SHAPE), head.voxels).astype(np.float32)
    proposal = coarse_contour(cut & head.body, 1.5)
    body = head.body if body_with_noise else head.body & ~cut
    refined = refine_anonymized(noisy, proposal, body, SPACING_MM)
    assert refined.decided_by is DecidedBy.VALUE_STATISTICS
    assert refined.fill_value is None
    assert dice(proposal, cut) < 0.3
    assert dice(refined.mask, cut) > 0.985
    assert dice(refined.mask & head.body, cut & head.body) > 0.978  # bone has the noise's values here and there
    np.testing.assert_array_equal(refined.shown, refined.mask)


def test_noise_like_the_scans_own_air_has_its_edge_where_tissue_ends() -> None:
    head, cut = phantom(), face_cut()
    air = head.voxels[ndimage.distance_transform_edt(~head.body, sampling=SPACING_MM) > 8.0]
    shuffled = np.random.default_rng(4).choice(air, SHAPE).astype(np.float32)
    proposal = coarse_contour(cut & head.body, 1.5)
    refined = refine_anonymized(np.where(cut, shuffled, head.voxels), proposal, head.body & ~cut, SPACING_MM)
    assert dice(refined.mask & head.body, cut & head.body) > 0.99
    height_mm = ndimage.distance_transform_edt(~proposal, sampling=SPACING_MM)
    assert height_mm[refined.mask].max() < 8.0


def test_noise_is_found_beside_a_false_proposal_of_constant_air() -> None:
    head, cut = phantom(noise=0.0), face_cut()
    noisy = np.where(cut, np.random.default_rng(3).normal(50, 20, SHAPE), head.voxels).astype(np.float32)
    proposal = coarse_contour(cut & head.body, 1.5)
    false = np.zeros(SHAPE, bool)
    false[40:60, 112:118, 30:60] = True
    assert (noisy[false] == 0).all()
    refined = refine_anonymized(noisy, proposal | false, head.body & ~cut, SPACING_MM)
    assert dice(refined.mask, cut) > 0.97


def test_a_small_false_proposal_does_not_become_all_of_the_air() -> None:
    head = phantom()
    proposal = np.zeros(SHAPE, bool)
    proposal[2:22, 2:22, 2:12] = True  # in the air, which is noise and unlike the tissue
    refined = refine_anonymized(head.voxels, proposal, head.body, SPACING_MM)
    assert np.count_nonzero(refined.mask) <= 10 * np.count_nonzero(proposal)


def test_tissue_whose_signal_fades_is_no_noise() -> None:
    head = phantom()
    slices = np.indices(SHAPE)[0]
    detail = ndimage.gaussian_filter(np.random.default_rng(7).normal(0, 1, SHAPE), 1.5)
    fading = np.minimum(1.0, np.maximum(slices / 40.0, 0.1))
    voxels = (np.where(head.body, head.voxels + 400 * detail, head.voxels) * fading).astype(np.float32)
    proposal = coarse_contour(head.body & (slices < 12), 1.5)
    assert np.count_nonzero(proposal) > 5000
    assert not refine_anonymized(voxels, proposal, head.body, SPACING_MM).mask.any()


def test_noise_in_a_scan_that_was_smoothed_afterwards_is_kept() -> None:
    head, cut = phantom(), face_cut()
    noisy = np.where(cut, np.random.default_rng(3).normal(50, 20, SHAPE), head.voxels)
    detail = ndimage.gaussian_filter(np.random.default_rng(7).normal(0, 400, SHAPE), 1.5)
    smooth = ndimage.gaussian_filter(noisy + np.where(head.body & ~cut, detail, 0), 0.6).astype(np.float32)
    refined = refine_anonymized(smooth, coarse_contour(cut & head.body, 1.5), head.body & ~cut, SPACING_MM)
    assert dice(refined.mask & head.body, cut & head.body) > 0.95


@pytest.mark.parametrize("n_slices", [3, 6])
def test_a_cut_in_a_few_slices_of_zeroed_air_is_found(n_slices: int) -> None:
    head, cut = phantom(noise=0.0), face_cut()
    slices = slice(40, 40 + n_slices)
    voxels, body = defaced(head, cut, 0.0)[slices], head.body[slices]
    proposal = coarse_contour(cut & head.body, 1.5)[slices]
    refined = refine_anonymized(voxels, proposal, body & ~cut[slices], (5.0, 1.5, 1.8))
    assert dice(refined.mask & body, cut[slices] & body) > 0.9


def test_air_that_is_mostly_zero_is_noise_and_no_constant() -> None:
    head, cut = phantom(noise=0.0), face_cut()
    rng = np.random.default_rng(5)
    air = np.where(rng.random(SHAPE) < 0.85, 0.0, 3.0).astype(np.float32)
    voxels = np.where(cut | ~head.body, air, head.voxels)
    refined = refine_anonymized(voxels, coarse_contour(cut & head.body, 1.5), head.body & ~cut, SPACING_MM)
    assert refined.decided_by is DecidedBy.VALUE_STATISTICS
    assert dice(refined.mask & head.body, cut & head.body) > 0.99


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_what_no_value_confirms_is_dropped(smoothing: float) -> None:
    head, cut = phantom(), face_cut()
    proposal = coarse_contour(cut & head.body, 1.5)
    voxels = ndimage.gaussian_filter(head.voxels, smoothing)
    refined = refine_anonymized(voxels, proposal, head.body, SPACING_MM)
    assert not refined.mask.any()
    assert refined.decided_by is not DecidedBy.NETWORK


def test_without_tissue_to_compare_with_nothing_is_confirmed() -> None:
    voxels = np.random.default_rng(6).normal(50, 20, SHAPE).astype(np.float32)
    proposal = np.zeros(SHAPE, bool)
    proposal[10:40, 10:40, 10:40] = True
    refined = refine_anonymized(voxels, proposal, np.zeros(SHAPE, bool), SPACING_MM)
    assert not refined.mask.any()


def test_noise_is_found_in_a_field_of_view_that_ends_at_the_skin() -> None:
    head, cut = phantom(), face_cut()
    inside = (slice(16, 64), slice(30, 90), slice(22, 68))
    noise = np.random.default_rng(3).normal(40, 10, SHAPE)
    voxels = np.where(cut, noise, head.voxels).astype(np.float32)[inside]
    proposal = coarse_contour(cut & head.body, 1.5)[inside]
    refined = refine_anonymized(voxels, proposal, np.ones_like(proposal), SPACING_MM)
    assert dice(refined.mask, cut[inside]) > 0.9


def test_noise_that_was_resampled_is_found_as_a_whole() -> None:
    head, cut = phantom(), face_cut()
    noise = np.random.default_rng(3).normal(40, 10, SHAPE)
    voxels = ndimage.shift(np.where(cut, noise, head.voxels).astype(np.float32), (0.5, 0.5, 0.5), order=1)
    proposal = coarse_contour(cut & head.body, 1.5)
    refined = refine_anonymized(voxels, proposal, head.body & ~cut, SPACING_MM)
    assert dice(proposal, cut) < 0.75
    assert dice(refined.mask, cut) > 0.93


@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_a_false_proposal_on_an_intact_face_does_not_grow(noise: float) -> None:
    head = phantom(noise=noise)
    proposal = np.zeros(SHAPE, bool)
    proposal[20:28, 18:26, 40:48] = True
    assert (proposal & head.body).any()
    refined = refine_anonymized(np.round(head.voxels), proposal, head.body, SPACING_MM)
    assert np.count_nonzero(refined.mask) <= 2 * np.count_nonzero(proposal)


def test_constant_air_before_a_skin_that_fades_is_no_cut_but_the_same_air_beside_bared_tissue_is() -> None:
    head = phantom(noise=0.0)
    blurred = ndimage.gaussian_filter(head.voxels, 1.0)
    faded = np.where(blurred < 60.0, np.float32(0.0), blurred)  # as scanners zero what is dark
    height_mm = ndimage.distance_transform_edt(~head.body, sampling=SPACING_MM)
    front = np.zeros(SHAPE, bool)
    front[20:60, :45, 25:65] = True
    before_the_face = front & (height_mm > 1.5) & (height_mm < 9.0)
    refined = refine_anonymized(faded, before_the_face, head.body, SPACING_MM)
    assert not refined.mask.any()
    assert refined.decided_by is DecidedBy.NATIVE_EVIDENCE
    layer = front & (head.depth_mm() > 0) & (head.depth_mm() < 6.0)
    cut = np.where(layer, np.float32(0.0), faded)
    proposal = layer | before_the_face
    refined = refine_anonymized(cut, proposal, head.body & ~layer, SPACING_MM)
    assert dice(refined.mask & head.body, layer) > 0.99


def test_a_large_cut_with_a_soft_edge_is_kept() -> None:
    head = phantom(noise=0.0)
    cut = np.zeros(SHAPE, bool)
    cut[:, :50] = True
    left = ndimage.gaussian_filter(np.where(cut, 0.0, 1.0), 1.0) * ~cut
    voxels = (head.voxels * left).astype(np.float32)
    proposal = coarse_contour(cut & head.body, 0.5)
    refined = refine_anonymized(voxels, proposal, head.body & ~cut, SPACING_MM)
    assert dice(refined.mask & head.body, cut & head.body) > 0.95


def test_a_small_proposal_does_not_become_the_padding_around_a_volume() -> None:
    head = phantom()
    voxels = head.voxels.copy()
    voxels[:, :8] = voxels[:, :, :8] = voxels[:, :, -8:] = voxels[:14] = 0.0
    proposal = np.zeros(SHAPE, bool)
    proposal[10:16, 60:70, 40:50] = True
    refined = refine_anonymized(voxels, proposal, head.body & (voxels != 0), SPACING_MM)
    assert np.count_nonzero(refined.mask) <= 5 * np.count_nonzero(proposal)


def test_no_proposal_means_no_area() -> None:
    head = phantom(noise=0.0)
    refined = refine_anonymized(head.voxels, np.zeros(SHAPE, bool), head.body, SPACING_MM)
    assert not refined.mask.any()
    assert refined.decided_by is DecidedBy.NETWORK

"""A blurred face is told from an untouched one by its values, and found to its edge."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.blurred import refine_blurred, turns_per_step
from inference.refine.grids import DecidedBy
from inference.refine.masks import refine_masks
from tests.phantom_head import SHAPE, SPACING_MM, Phantom, coarse_contour, dice, phantom


def face(head: Phantom) -> NDArray[np.bool_]:
    """The front of the head, 20 mm deep."""
    front = np.zeros(SHAPE, bool)
    front[15:60, :60, 20:70] = True
    return front & head.body & (head.depth_mm() < 20.0)


def blurred(voxels: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(where, ndimage.gaussian_filter(voxels, 1.5), voxels).astype(np.float32)


def pixelated(voxels: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    means = ndimage.uniform_filter(voxels, 5)
    centres = [np.minimum(np.arange(size) // 5 * 5 + 2, size - 1) for size in SHAPE]
    return np.where(where, means[np.ix_(*centres)], voxels).astype(np.float32)


@pytest.mark.parametrize("change", [blurred, pixelated])
def test_a_face_without_detail_is_found_to_its_edge(change) -> None:  # type: ignore[no-untyped-def]
    head = phantom()
    where = face(head)
    proposal = coarse_contour(ndimage.binary_erosion(where, iterations=2), 1.5)
    area = refine_blurred(change(head.voxels, where), proposal, head.body, SPACING_MM)
    assert dice(proposal, where) < 0.8
    assert dice(area & head.body, where) > 0.88


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_a_proposal_on_an_untouched_face_is_dropped_also_where_the_whole_scan_is_smooth(sigma: float) -> None:
    head = phantom()
    voxels = ndimage.gaussian_filter(head.voxels, sigma)
    assert not refine_blurred(voxels, coarse_contour(face(head), 1.5), head.body, SPACING_MM).any()


def test_of_two_proposals_the_false_one_is_dropped() -> None:
    head = phantom()
    where = face(head)
    false = np.zeros(SHAPE, bool)
    false[30:50, 85:105, 35:55] = True
    area = refine_blurred(blurred(head.voxels, where), where | false, head.body, SPACING_MM)
    assert dice(area & head.body, where) > 0.88
    assert not area[false].any()


def test_blurred_tissue_is_anonymised_and_still_body() -> None:
    head = phantom()
    where = face(head)
    voxels = blurred(head.voxels, where)
    masks = refine_masks(
        voxels,
        head.body,
        where,
        SPACING_MM,
        foreground=True,
        anonymized=True,
        is_ct=False,
        altered=where,
        smoothed=where,
    )
    assert masks.decided_by["anonymized"] is DecidedBy.VALUE_STATISTICS
    assert dice(masks.anonymized & head.body, where) > 0.88
    assert np.mean(masks.foreground[where & (head.depth_mm() > 4.0)]) > 0.99


def test_constant_air_beside_a_blurred_face_is_not_taken_for_smooth_tissue() -> None:
    head = phantom(noise=0.0)
    where = face(head)
    area = refine_blurred(blurred(head.voxels, where), where, head.body, SPACING_MM)
    assert dice(area, where) > 0.85


def test_tissue_that_a_model_calls_replaced_stays_as_the_network_drew_it() -> None:
    head = phantom()
    where = face(head)
    masks = refine_masks(
        head.voxels, head.body, where, SPACING_MM, foreground=True, anonymized=True, is_ct=False, altered=where
    )
    np.testing.assert_array_equal(masks.anonymized, where)


@pytest.mark.parametrize("shape", [(1, 40, 40), (2, 2, 40), (1, 1, 2), (30, 30, 30)])
def test_noise_turns_about_as_much_as_it_steps_and_a_slope_only_steps(shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).normal(0, 10, shape).astype(np.float32)
    slope = np.broadcast_to(np.arange(shape[2], dtype=np.float32), shape)
    assert turns_per_step(slope)[..., 1:-1].max(initial=0.0) < 1e-3
    if max(shape) >= 3:
        assert np.median(turns_per_step(noise)[..., 1:-1]) > 0.8

"""Where air and fill hold the same value, tissue that was bared shows what else a tool took."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.anonymized import _near, refine_anonymized
from inference.refine.grids import coarse_grid
from tests.phantom_head import SHAPE, SPACING_MM, Phantom, coarse_contour, dice, phantom


def head_in_zeroed_air() -> Phantom:
    """Its skin fades before the zeros, as a scanner's does; at its sides muscle covers the bone."""
    head = phantom(noise=0.0)
    muscle = np.zeros(SHAPE, bool)
    muscle[28:54, 52:78] = True
    blurred = ndimage.gaussian_filter(np.where(muscle & head.body, np.float32(500.0), head.voxels), 1.0)
    voxels = np.where(blurred < 60.0, np.float32(0.0), blurred)
    return Phantom(voxels, head.body & (voxels != 0))


def face() -> NDArray[np.bool_]:
    cut = np.zeros(SHAPE, bool)
    cut[:, :50] = True
    return cut


def ears(head: Phantom, *, depth_mm: float = 6.0) -> NDArray[np.bool_]:
    """A layer of both sides of the head."""
    sides = np.zeros(SHAPE, bool)
    sides[32:50, 56:74] = True
    return np.asarray(sides & head.body & (head.depth_mm() < depth_mm))


def refine(voxels: NDArray[np.float32], head: Phantom, cut: NDArray[np.bool_]) -> NDArray[np.bool_]:
    proposal = coarse_contour(face() & head.body, 1.5)
    return refine_anonymized(voxels, proposal, head.body & ~cut, SPACING_MM).mask


def test_ears_that_the_network_missed_are_found_by_the_tissue_that_they_bare() -> None:
    head = head_in_zeroed_air()
    cut = face() | ears(head)
    assert np.count_nonzero(ears(head)) > 300
    found = refine(np.where(cut, np.float32(0.0), head.voxels), head, cut)
    assert dice(found & head.body, cut & head.body) > 0.998
    assert (found & ears(head)).sum() > 0.98 * ears(head).sum()
    height_mm = ndimage.distance_transform_edt(~(cut & head.body), sampling=SPACING_MM)
    assert height_mm[found].max() < 40.0


def test_skin_that_fades_before_zeroed_air_is_no_cut() -> None:
    head = head_in_zeroed_air()
    cut = face()
    found = refine(np.where(cut, np.float32(0.0), head.voxels), head, cut)
    height_mm = ndimage.distance_transform_edt(~cut, sampling=SPACING_MM)
    assert height_mm[found].max() < 30.0


def test_nothing_is_near_where_no_tissue_is_bared() -> None:
    grid = coarse_grid(SHAPE, SPACING_MM)
    assert not _near(np.zeros(grid.coarse_shape, bool), grid, 15.0).any()


def test_air_that_is_zero_up_to_bright_skin_all_around_the_head_shows_nothing() -> None:
    head = head_in_zeroed_air()
    inner = ndimage.binary_erosion(head.body, iterations=2)
    sharp = Phantom(np.where(inner, head.voxels, np.float32(0.0)), inner)
    assert np.median(sharp.voxels[inner & ~ndimage.binary_erosion(inner)]) > 300
    cut = face()
    found = refine(np.where(cut, np.float32(0.0), sharp.voxels), sharp, cut)
    height_mm = ndimage.distance_transform_edt(~cut, sampling=SPACING_MM)
    assert height_mm[found].max() < 30.0


def test_padding_below_the_scan_is_no_cut() -> None:
    head = head_in_zeroed_air()
    scanned = np.zeros(SHAPE, bool)
    scanned[20:] = True
    cut = face()
    voxels = np.where(cut | ~scanned, np.float32(0.0), head.voxels)
    proposal = coarse_contour(cut & scanned & head.body, 1.5)
    refined = refine_anonymized(voxels, proposal, head.body & ~cut & scanned, SPACING_MM)
    reached_mm = ndimage.distance_transform_edt(~(cut & scanned), sampling=SPACING_MM)
    assert reached_mm[refined.mask].max() < 30.0

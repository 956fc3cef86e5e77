"""What is measured of a head built from blocks, in millimetres and millilitres that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.verdict.facts import SegmentationFacts, gather_facts

SPACING_MM = (4.0, 4.0, 4.0)
Mask = NDArray[np.bool_]


def block_head(*, height: int = 60) -> Mask:
    """A block of 240 x 200 x 160 mm, 80 mm of air before its forehead; axes towards head, posterior, left."""
    body = np.zeros((70, 90, 60), bool)
    body[65 - height : 65, 20:70, 10:50] = True
    return body


def none_of(body: Mask) -> Mask:
    return np.zeros(body.shape, bool)


def test_an_intact_head_is_measured() -> None:
    body = block_head()
    facts = gather_facts(body, none_of(body), SPACING_MM)
    assert facts.foreground_ml == pytest.approx(60 * 50 * 40 * 0.064)
    assert facts.height_mm == 240.0
    assert facts.upper_width_mm == 160.0
    assert facts.upper_ml == pytest.approx(23 * 50 * 40 * 0.064)  # 85 mm and the vertex' plane
    assert facts.top_cut_cm2 == 0.0
    assert facts.window_share > 0.95
    assert facts.coverage == facts.face_ml == facts.front_cut_share == 0.0


@pytest.mark.parametrize("thickness", [1, 5, 12])
def test_coverage_does_not_depend_on_how_deep_a_tool_cuts(thickness: int) -> None:
    body, cut = block_head(), np.zeros((70, 90, 60), bool)
    cut[:44, 20 : 20 + thickness] = True
    facts = gather_facts(body & ~cut, cut, SPACING_MM)
    assert facts.coverage == 1.0
    assert facts.face_ml > 30.0


def test_a_fill_that_the_other_model_takes_for_body_covers_all_the_same() -> None:
    body, cut = block_head(), np.zeros((70, 90, 60), bool)
    cut[:44, 20:25] = True
    assert gather_facts(body, cut, SPACING_MM).coverage == 1.0


def test_a_cut_of_the_lower_half_covers_about_half() -> None:
    body, cut = block_head(), np.zeros((70, 90, 60), bool)
    cut[:29, 18:30] = True  # window: planes 14 to 41
    assert gather_facts(body & ~cut, cut, SPACING_MM).coverage == pytest.approx(0.54, abs=0.05)


@pytest.mark.parametrize(
    "area", [np.s_[:, 75:, :], np.s_[55:, :, :], np.s_[:, :3, :]], ids=["behind", "above the brow", "far in front"]
)
def test_area_elsewhere_covers_no_face(area: tuple[slice, ...]) -> None:
    body, cut = block_head(), np.zeros((70, 90, 60), bool)
    cut[area] = True
    facts = gather_facts(body & ~cut, cut, SPACING_MM)
    assert facts.coverage == 0.0
    assert facts.anonymized_ml > 100.0


def test_a_field_of_view_that_ends_below_the_brow_shows_little_of_the_window() -> None:
    body = block_head()[40:]
    assert gather_facts(body, none_of(body), SPACING_MM).window_share < 0.2


def test_a_brain_alone_fills_little_of_the_window() -> None:
    body = block_head(height=32)  # 130 mm high in a large field of view
    assert gather_facts(body, none_of(body), SPACING_MM).window_share < 0.5


def test_a_field_of_view_that_cuts_vertex_and_face_is_noticed() -> None:
    body = block_head()[:50, 25:]
    facts = gather_facts(body, none_of(body), SPACING_MM)
    assert facts.top_cut_cm2 == pytest.approx(45 * 40 * 0.16)
    assert facts.front_cut_share == 1.0


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 1, 1), (200, 2, 2)])
def test_flat_and_tiny_masks_can_be_measured(shape: tuple[int, int, int]) -> None:
    everything = np.ones(shape, bool)
    assert gather_facts(everything, ~everything, (5.0, 0.5, 0.5)).foreground_ml > 0
    assert gather_facts(~everything, ~everything, (5.0, 0.5, 0.5)) == SegmentationFacts(0.0, 0.0, 0.0)


def test_facts_do_not_depend_on_the_voxel_size() -> None:
    body, cut = block_head(), np.zeros((70, 90, 60), bool)
    cut[:40, 16:26] = True
    fine = [np.repeat(np.repeat(mask, 2, axis=1), 4, axis=2) for mask in (body & ~cut, cut)]
    coarse = gather_facts(body & ~cut, cut, SPACING_MM)
    assert gather_facts(fine[0], fine[1], (4.0, 2.0, 1.0)).as_dict() == pytest.approx(coarse.as_dict())


@pytest.mark.parametrize(("depth", "recess_mm"), [(0, 0.0), (10, 40.0), (40, 60.0)])
def test_recess_is_how_far_the_skin_lies_behind_the_forehead(depth: int, recess_mm: float) -> None:
    body, cut = block_head(), np.zeros((70, 90, 60), bool)
    cut[:44, 18 : 20 + depth] = True
    assert gather_facts(body & ~cut, cut, SPACING_MM).recess_mm == recess_mm

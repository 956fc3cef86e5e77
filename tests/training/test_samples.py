"""Samples: pairs that differ by the tool alone, targets that mean what they say, the same numbers for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("pydeface")

from training import conditions
from training.cohort import Cohort
from training.defacing import Scene, deface
from training.samples import (
    CHANNEL_NAMES,
    IGNORE,
    PATCH,
    REPLACED_LABEL,
    SMOOTHED_LABEL,
    Sample,
    anonymized_target,
    centre_of,
    draw_samples,
)
from training.synthesis import render_ct, render_mr


@pytest.fixture(scope="module")
def groups(cohort: Cohort) -> list[list[Sample]]:
    return [draw_samples(cohort, np.random.default_rng([1, number])) for number in range(8)]


def test_a_seed_and_a_number_always_give_the_same_samples(cohort: Cohort, groups: list[list[Sample]]) -> None:
    for number in (0, 1):
        again = draw_samples(cohort, np.random.default_rng([1, number]))
        for sample, repeated in zip(groups[number], again, strict=True):
            assert sample.kind == repeated.kind
            np.testing.assert_array_equal(sample.channels, repeated.channels)
            np.testing.assert_array_equal(sample.anonymized, repeated.anonymized)


def test_samples_are_patches_of_all_channels_without_a_bad_number(groups: list[list[Sample]]) -> None:
    for sample in (sample for group in groups for sample in group):
        assert sample.channels.shape == (len(CHANNEL_NAMES), *PATCH)
        assert np.isfinite(sample.channels).all()
        assert set(np.unique(sample.foreground)) <= {0, 1, IGNORE}


def test_untouched_volumes_have_nothing_to_find_and_are_the_larger_half(groups: list[list[Sample]]) -> None:
    samples = [sample for group in groups for sample in group]
    untouched = [s for s in samples if s.kind in ("intact", "stripped", "cropped", "body")]
    assert all(not sample.anonymized.any() for sample in untouched)
    assert len(untouched) >= len(samples) / 2


def test_a_pair_is_the_same_head_at_the_same_place(groups: list[list[Sample]]) -> None:
    pairs = [group for group in groups if len(group) > 1]
    assert pairs
    for defaced, intact, *_ in pairs:
        field_of_view = CHANNEL_NAMES.index("field_of_view")
        np.testing.assert_array_equal(defaced.channels[field_of_view], intact.channels[field_of_view])
        removed = defaced.anonymized == 1
        assert (intact.foreground[removed] == 1).mean() > 0.9 if removed.any() else True


def test_cut_tissue_is_removed_and_cut_air_is_ignored(cohort: Cohort) -> None:
    head = cohort.members[0]
    assert head.to_template is not None
    scene = Scene(head.voxels, np.full(3, 4.0), head.body, head.to_template, cohort.brain_atlas)
    change = deface(scene, "quickshear", np.random.default_rng(0))
    target = anonymized_target(scene, change)
    assert (target[change.removed & scene.body] == 1).all()
    assert (target[change.removed & ~scene.body] == IGNORE).all()
    assert (target[~change.removed] == 0).all()


@pytest.mark.parametrize(
    ("family", "label"), [("blur", SMOOTHED_LABEL), ("average face", SMOOTHED_LABEL), ("reface", REPLACED_LABEL)]
)
def test_a_smooth_and_an_exchanged_face_are_labels_of_their_own(cohort: Cohort, family: str, label: int) -> None:
    member = cohort.members[0]
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    scene = Scene(member.voxels, spacing, member.body, np.asarray(member.to_template), cohort.brain_atlas)
    change = deface(scene, family, np.random.default_rng(2), donors=[scene])
    target = anonymized_target(scene, change)
    assert set(np.unique(target[scene.body])) == {0, label}


def test_patches_lie_around_an_ear_as_often_as_around_the_face_and_not_around_crumbs() -> None:
    changed = np.zeros((40, 40, 40), bool)
    changed[:20, :20] = True
    changed[30:36, 30:36, 30:36] = True
    changed[38, 38, 38] = True
    rng = np.random.default_rng(0)
    centres = [centre_of(changed, rng) for _ in range(200)]
    at_ear = [centre is not None and 0.75 < centre[2] < 0.9 and centre[0] > 0.7 for centre in centres]
    assert 0.4 < np.mean(at_ear) < 0.6
    assert all(centre is not None and centre[0] < 0.95 for centre in centres)
    assert centre_of(np.zeros((4, 4, 4), bool), rng) is None


@pytest.mark.parametrize("seed", range(6))
def test_a_stripped_brain_is_ragged_at_its_edge_and_whole_inside(cohort: Cohort, seed: int) -> None:
    member = cohort.members[0]
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    scene = Scene(member.voxels, spacing, member.body, np.asarray(member.to_template), cohort.brain_atlas)
    voxels, left = conditions.strip_skull(scene, np.random.default_rng(seed))
    deep = ndimage.distance_transform_edt(scene.brain, sampling=spacing) > 12.0
    assert left[deep & scene.body].all()
    assert not voxels[~left].any()


def test_a_thin_slab_stays_where_it_was(cohort: Cohort) -> None:
    member = cohort.members[0]
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    scene = Scene(member.voxels, spacing, member.body, np.asarray(member.to_template), cohort.brain_atlas)
    for seed in range(6):
        slab = conditions.thin_slab(scene, np.random.default_rng(seed))
        thickness = np.array(slab.voxels.shape) * spacing
        assert thickness.min() <= 48.0
        corner = tuple(slab.template_mm[:, 0, 0, 0])
        before = np.abs(scene.template_mm - np.reshape(corner, (3, 1, 1, 1))).sum(0)
        place = np.unravel_index(before.argmin(), before.shape)
        assert scene.voxels[place] == slab.voxels[0, 0, 0]


def test_rendered_ct_has_air_around_a_body_in_hounsfield_units(cohort: Cohort) -> None:
    head = cohort.members[1]
    groups = np.asarray(head.voxels, dtype=np.uint8)
    ct = render_ct(groups, head.body, np.full(3, 4.0), np.random.default_rng(0))
    assert ct.min() >= -1024.0
    assert np.median(ct[groups == 0]) < -900.0
    assert -200.0 < np.median(ct[groups > 0]) < 1700.0
    mr = render_mr(groups, np.random.default_rng(0))
    assert mr.min() >= 0.0
    assert np.median(mr[groups == 0]) < 0.3 * np.median(mr[groups > 0])

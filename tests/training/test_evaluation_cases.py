"""Cases to measure hold the kind of numbers that a file of their head holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.cohort import Cohort
from training.defacing import Scene
from training.evaluation.cases import Case, face_cases, scenes


def cases(cohort: Cohort, *, whole: bool) -> list[Case]:
    ((_, scene),) = scenes(cohort.members[0], cohort)
    if whole:
        scene = replace(scene, voxels=np.round(scene.voxels))
    donor = Scene(scene.voxels + 0.3, scene.spacing_mm, scene.body, scene.to_template, scene.brain_atlas)
    return list(face_cases(scene, "MR", [donor], seed=0))


@pytest.mark.parametrize("whole", [True, False])
def test_a_head_of_whole_numbers_has_whole_numbers_after_every_tool_and_condition(cohort: Cohort, whole: bool) -> None:
    made = cases(cohort, whole=whole)
    assert len(made) > 15
    assert {bool(np.all(case.voxels == np.round(case.voxels))) for case in made} == {whole}


def test_rendered_heads_hold_whole_numbers(cohort: Cohort) -> None:
    for _, scene in scenes(cohort.members[1], cohort):
        assert np.all(scene.voxels == np.round(scene.voxels))
        assert np.ptp(scene.voxels) > 50

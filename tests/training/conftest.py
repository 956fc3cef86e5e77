"""A cohort small enough to draw from in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.atlas import BrainAtlas, load_template
from training.cohort import Cohort, Member
from training.inventory import Entry

STEP = 4


@pytest.fixture(scope="session")
def cohort() -> Cohort:
    """The template as one MR head, a label map made of its levels, and a box of a body."""
    pytest.importorskip("pydeface")
    template = load_template().head
    head = template.voxels[::STEP, ::STEP, ::STEP]
    noise = np.random.default_rng(0).normal(0, 3, head.shape).astype(np.float32)
    affine = template.affine @ np.diag([STEP, STEP, STEP, 1.0])
    body = head > 60
    groups = np.digitize(head, [60, 120, 200, 300]).astype(np.uint8) * 2
    slices, rows, columns = np.indices(head.shape)
    brain = ((slices - 40) / 14) ** 2 + ((rows - 34) / 20) ** 2 + ((columns - 22) / 16) ** 2 < 1
    trunk = np.zeros((30, 40, 40), bool)
    trunk[:, 6:34, 6:34] = True
    members = (
        Member(entry("head", "MR", "head", "intact"), np.abs(head + noise), affine, body, affine),
        Member(entry("map", "labels", "head", "see image"), groups, affine, body, affine),
        Member(entry("trunk", "CT", "chest", "none"), trunk * 1040.0 - 1000.0, np.diag([5.0, 5, 5, 1]), trunk, None),
        Member(entry("slab", "MR", "head", "cropped"), np.abs(head + noise)[30:], affine, body[30:], None),
    )
    return Cohort(members, BrainAtlas(brain.astype(np.float32), affine))


def entry(name: str, modality: str, body_part: str, face: str) -> Entry:
    return Entry(name, Path(name), "train", name, modality, "T1", body_part, face)

"""Of what looks removed, a part counts by itself if it is large and the judge is sure of it."""

from __future__ import annotations

import numpy as np
import pytest

from inference.judge.removed_parts import believed_parts

VOXEL_ML = 0.008


@pytest.mark.parametrize(
    ("size", "probability", "is_believed"), [(9, 0.95, True), (9, 0.9, False), (8, 0.95, False), (12, 0.93, True)]
)
def test_a_part_must_be_large_and_sure(size: int, probability: float, is_believed: bool) -> None:
    removed, speck = np.zeros((2, 20, 20, 20), bool)
    removed[2 : 2 + size, 3 : 3 + size, 4 : 4 + size] = True  # 9 voxels: 5.8 mL, 8 voxels: 4.1 mL
    speck[17:19, 17:19, 17:19] = True
    changed = np.where(speck, np.float32(0.99), np.float32(0.1))
    changed[removed] = probability
    expected = removed if is_believed else np.zeros_like(removed)
    np.testing.assert_array_equal(believed_parts(removed | speck, changed, VOXEL_ML), expected)


def test_a_sure_core_does_not_make_a_doubtful_part_sure() -> None:
    removed = np.zeros((20, 20, 20), bool)
    removed[2:16, 2:16, 2:16] = True
    changed = np.where(removed, np.float32(0.6), np.float32(0.1))
    changed[5:12, 5:12, 5:12] = 0.99
    assert not believed_parts(removed, changed, VOXEL_ML).any()

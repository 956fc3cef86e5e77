"""Which volumes a network may learn from, by their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.datasets.errors import VolumeRefused
from dicom_node.datasets.facts import check, measure

SHAPE = (70, 70, 70)
BODY = (slice(20, 50), slice(35, 65), slice(20, 50))


def checked(altered_rows: slice) -> None:
    """Check a textured cuboid, of which some rows are altered, air included."""
    voxels = np.random.default_rng(0).normal(500, 50, SHAPE).astype(np.float32)
    body, altered = (np.zeros(SHAPE, dtype=np.bool_) for _ in range(2))
    body[BODY] = True
    altered[:, altered_rows] = True
    check(measure(voxels, body, altered, None), voxels, body, altered, None, (2.0, 2.0, 2.0))


def test_air_that_a_plane_cut_off_is_no_reason_to_refuse_a_head() -> None:
    checked(slice(0, 35))  # half of the volume, more than three times the body, and none of the body


def test_a_body_of_which_more_than_half_is_altered_is_refused() -> None:
    checked(slice(35, 50))  # exactly half of it
    with pytest.raises(VolumeRefused, match="53% of the body's voxels are altered, at most 50% may be"):
        checked(slice(35, 51))

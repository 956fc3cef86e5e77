"""Values below air around the scanned circle of a CT change nothing."""

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.ct_padding import without_ct_padding
from inference.models import reference_model
from inference.segment import Models, load_models, segment
from tests.inference.test_segment import source_volume
from tests.phantom_head import SPACING_MM, dice, phantom


def head_in_hounsfield_units() -> NDArray[np.float32]:
    return (phantom(noise=8.0, air=-1000.0, tissue=40.0).voxels).clip(-1024.0, None).astype(np.float32)


def padded(voxels: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    """Outside the circle that a scanner reconstructs."""
    _, n_rows, n_columns = voxels.shape
    rows, columns = np.indices((n_rows, n_columns))
    outside = ((rows + 0.5) / n_rows * 2 - 1) ** 2 + ((columns + 0.5) / n_columns * 2 - 1) ** 2 > 1
    return np.where(outside, np.float32(value), voxels)


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(reference_model("foreground"), reference_model("anonymized"), device="cpu")


@pytest.mark.parametrize("modality", ["CT", ""])
def test_padding_becomes_air(modality: str) -> None:
    voxels = padded(head_in_hounsfield_units(), -3024.0)
    raised = without_ct_padding(voxels, modality)
    assert raised.min() == -1024.0
    np.testing.assert_array_equal(raised[voxels >= -1024.0], voxels[voxels >= -1024.0])
    assert voxels.min() == -3024.0


def test_what_is_no_ct_or_has_no_padding_is_left_alone() -> None:
    ct, phase = head_in_hounsfield_units(), np.random.default_rng(0).uniform(-4096, 4096, (8, 64, 64))
    assert without_ct_padding(ct, "CT") is ct
    for modality in ("MR", ""):
        voxels = phase.astype(np.float32)
        assert without_ct_padding(voxels, modality) is voxels


@pytest.mark.parametrize("value", [-2000.0, -3024.0])
def test_the_body_is_the_same_with_padding_around_it(models: Models, value: float) -> None:
    voxels = head_in_hounsfield_units()
    plain = segment(source_volume(voxels, spacing_mm=SPACING_MM), models)
    around = segment(source_volume(padded(voxels, value), spacing_mm=SPACING_MM), models)
    assert dice(plain.foreground, phantom().body) > 0.9
    assert dice(around.foreground, plain.foreground) > 0.995
    assert around.verdict.verdict is plain.verdict.verdict

"""What a long scan needs beside its own voxels stays small: nothing whole is made that a slab would do for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from inference.nnunet import preprocessing
from inference.nnunet.channels import CHANNELS
from inference.nnunet.document import Node
from inference.nnunet.plans import Normalization, Plans, Resampling
from inference.refine import grids
from inference.refine.grids import chosen_parts, part_sizes
from inference.series.assemble import assemble_volumes
from inference.series.files import PathSource
from tests.factories import ct_series


def peak_bytes(function: Callable[[], object]) -> int:
    """Most bytes that numpy and Python held at once because of the call; torch's own are not among them."""
    tracemalloc.start()
    try:
        kept = function()
        del kept
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_reading_a_series_takes_little_more_than_its_volume(tmp_path: Path) -> None:
    series = ct_series(40, rows=256, columns=256)
    sources = [PathSource(path) for path in series.write_to(tmp_path)]
    volume_bytes = series.voxels.nbytes
    del series
    # Held encoded, as they are in the files, the slices would be half as much again.
    assert peak_bytes(lambda: assemble_volumes(sources)) < 1.25 * volume_bytes


def test_channels_are_prepared_without_ever_being_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "slab_planes", lambda _: 4)
    voxels = np.random.default_rng(0).normal(0, 50, (200, 384, 384)).astype(np.float32)
    how = Resampling(order=3, order_z=0, force_separate_z=None, is_clipped=True)
    plans = Plans(
        configuration="3d_fullres",
        spacing_mm=(3.0, 3.0, 3.0),
        patch_size=(32, 32, 32),
        transpose_forward=(0, 1, 2),
        normalizations=(Normalization("ZScoreNormalization"), *[Normalization("NoNormalization")] * 3),
        data_resampling=how,
        logits_resampling=how,
        is_ras=False,
        architecture=Node("plans.json", "architecture", {}),
    )
    shared = preprocessing.Preprocessing(voxels, (1.0, 1.0, 1.0))
    assert peak_bytes(lambda: shared.prepare(plans, list(CHANNELS))) < 0.5 * voxels.nbytes


def test_parts_are_counted_and_chosen_slab_by_slab_as_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "SLAB_VOXELS", 500)
    mask = np.random.default_rng(1).random((17, 19, 23)) < 0.3
    labelled, n_parts = ndimage.label(mask)
    expected = np.bincount(labelled.ravel(), minlength=n_parts + 1)
    sizes = part_sizes(labelled, n_parts)
    np.testing.assert_array_equal(sizes[1:], expected[1:])
    assert sizes[0] == 0
    is_chosen = sizes > 3
    np.testing.assert_array_equal(chosen_parts(labelled, is_chosen), is_chosen[labelled])

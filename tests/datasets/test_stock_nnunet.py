"""Stock nnU-Net plans and preprocesses the layout; altered voxels keep the ignore label."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.conftest import Segmented, run_command

NAME = "Dataset017_Cuboids"
TIMEOUT_S = 560


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stock_preprocessing_keeps_both_masks(segmented: Segmented, tmp_path: Path) -> None:
    pytest.importorskip("nnunetv2")
    out = tmp_path / "out"
    run_command("dataset", segmented.results, "-o", out, "--number", "17", "--name", "Cuboids", "--layout", "nnunet")
    raw, done = out / "nnunet", tmp_path / "preprocessed"
    environment = {
        **os.environ,
        "nnUNet_raw": str(raw),
        "nnUNet_preprocessed": str(done),
        "nnUNet_results": str(tmp_path / "results"),
        "OMP_NUM_THREADS": "1",
    }
    command = Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess")
    options = ("-d", "17", "--verify_dataset_integrity", "-c", "3d_fullres", "-np", "1", "-npfp", "1")
    answer = subprocess.run(
        [command, *options], env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert answer.returncode == 0, answer.stderr[-4000:]

    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    plans = json.loads((done / NAME / "nnUNetPlans.json").read_text())
    folder = done / NAME / plans["configurations"]["3d_fullres"]["data_identifier"]
    dataset = nnUNetDatasetBlosc2(str(folder))
    volumes = {one["id"]: one for one in json.loads((out / "manifest.json").read_text())["volumes"]}
    assert set(dataset.identifiers) == set(volumes)
    for name, volume in volumes.items():
        _, labels, _, _ = dataset.load_case(name)
        found = np.asarray(labels[:])
        assert np.count_nonzero(found == 2) == volume["n_altered"]
        assert np.count_nonzero(found == 1) == volume["n_body"] - volume["n_altered_body"]
        # What nnU-Net takes for outside is the share that the manifest told.
        assert np.count_nonzero(found == -1) / found.size == pytest.approx(volume["exact_zero_air"], abs=1e-6)

"""Stock nnssl reads the dataset: fingerprint, plans, preprocessing and dataset, in each mode of masks."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.conftest import Segmented, run_command, segmented

__all__ = ["segmented"]

FOLDER = Path(os.environ.get("DICOM_NODE_TEST_NNSSL", Path(__file__).parents[2] / "build" / "nnssl"))
NAME = "Dataset017_Cuboids"
CONFIGURATIONS = ("onemmiso", "noresample", "median")
MASKS = ("anonymization_mask", "anatomy_mask")
CLOSE = 1e-3
TIMEOUT_S = 240

pytestmark = [
    pytest.mark.skipif(not (FOLDER / ".installed").exists(), reason=f"no nnssl in {FOLDER}: make peers-nnssl"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


def in_nnssl(environment: dict[str, str], program: str, *arguments: object) -> str:
    """Run a program of nnssl's environment; return what it wrote."""
    answer = subprocess.run(
        [str(FOLDER / "bin" / program), *map(str, arguments)],
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-4000:]
    assert "Error processing" not in answer.stdout, answer.stdout[-4000:]
    return answer.stdout


def preprocessed(
    segmented: Segmented, folder: Path, mode: str, *configurations: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return our volumes by ID, and what nnssl's dataset holds of each, by configuration."""
    out = folder / "dataset"
    made = run_command(
        "dataset",
        segmented.results,
        "-o",
        out,
        "--number",
        17,
        "--name",
        "Cuboids",
        "--masks",
        mode,
        "--layout",
        "nnssl",
    )
    assert made.exit_code == 3, made.stderr
    environment = {
        "nnssl_raw": str(out / "nnssl"),
        "nnssl_preprocessed": str(folder / "preprocessed"),
        "nnssl_results": str(folder / "results"),
    }
    in_nnssl(environment, "nnssl_extract_fingerprint", "-d", 17, "-np", 1)
    in_nnssl(environment, "nnssl_plan_experiment", "-d", 17)
    in_nnssl(environment, "nnssl_preprocess", "-d", 17, "-c", *configurations, "-np", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnssl_preprocessed", environment["nnssl_preprocessed"])
        checked = run_command("dataset", "--check", "-o", out)
    n_masks = len(configurations) * 5 * (1 if mode == "anon-only" else 2)  # one volume has hardly ones in either
    if mode == "documented":  # nnssl at this commit exchanges the two
        assert checked.exit_code == 3
        assert f"{n_masks} of {n_masks} masks hold what belongs in the other one" in checked.stderr
    else:
        assert (checked.exit_code, checked.stdout) == (0, f"6 volumes, {n_masks} masks of nnssl, 0 faults\n")
    script = Path(__file__).parent / "read_masks.py"
    found = {one: json.loads(in_nnssl(environment, "python", script, NAME, one)) for one in configurations}
    volumes = {one["id"]: one for one in json.loads((out / "manifest.json").read_text())["volumes"]}
    return volumes, found


def ones(shares: dict[str, float] | None) -> float | None:
    return None if shares is None else shares.get("1", 0.0)


@pytest.mark.parametrize("mode", ["documented", "compat", "anon-only"])
def test_the_shares_of_ones_are_ours_after_stock_preprocessing(segmented: Segmented, tmp_path: Path, mode: str) -> None:
    volumes, found = preprocessed(segmented, tmp_path, mode, *CONFIGURATIONS)

    n_compared = 0
    for configuration in CONFIGURATIONS:
        assert set(found[configuration]) == set(volumes)
        for name, told in found[configuration].items():
            if volumes[name]["exact_zero_air"]:  # cropped: the shares are of fewer voxels
                continue
            ours = dict(volumes[name]["ones"])
            if mode == "documented":  # nnssl at this commit swaps the two
                ours = dict(zip(MASKS, reversed(ours.values()), strict=True))
            elif mode == "anon-only":
                ours["anatomy_mask"] = None
            assert {mask: ones(told[mask]) for mask in MASKS} == pytest.approx(ours, abs=CLOSE), (configuration, name)
            n_compared += 1
    assert n_compared == len(CONFIGURATIONS) * 5


def test_air_that_is_exactly_zero_becomes_minus_one_in_the_share_that_was_told(
    segmented: Segmented, tmp_path: Path
) -> None:
    volumes, found = preprocessed(segmented, tmp_path, "anon-only", "noresample")

    for name, told in found["noresample"].items():
        assert told["anonymization_mask"].get("-1", 0.0) == pytest.approx(volumes[name]["exact_zero_air"], abs=CLOSE)
    assert sum(volume["exact_zero_air"] > 0 for volume in volumes.values()) == 1

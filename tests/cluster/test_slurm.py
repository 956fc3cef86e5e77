"""``segment --cluster slurm:2`` on a real SLURM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.cluster.dask_processes import ROOT
from tests.cluster.slurm import running_slurm
from tests.factories import ct_series
from tests.tiny_models import write_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def slurm_env(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """Environment of a user of SLURM who has told dask-jobqueue what a job asks for."""
    (tmp_path / "dask").mkdir()
    asked = {"cores": 2, "processes": 1, "memory": "4GiB", "walltime": "00:20:00", "interface": "lo"}
    settings = {**asked, "shared-temp-directory": str(tmp_path), "log-directory": str(tmp_path / "logs")}
    (tmp_path / "dask" / "jobqueue.yaml").write_text(yaml.safe_dump({"jobqueue": {"slurm": settings}}))
    with running_slurm() as conf:
        yield {
            **os.environ,
            "SLURM_CONF": str(conf),
            "DASK_CONFIG": str(tmp_path / "dask"),
            "PYTHONPATH": str(ROOT),
        }


def test_jobs_of_slurm_segment_a_folder_and_end_with_the_run(slurm_env: Mapping[str, str], tmp_path: Path) -> None:
    for role, above in (("foreground", -500.0), ("anonymized", 750.0)):
        write_tiny_model(tmp_path / role, role, above=above, spacing_mm=(4.0, 4.0, 4.0))
    for seed in "abcd":
        ct_series(n_slices=12, spacing_mm=(4.0, 4.0, 4.0), seed=seed).write_to(tmp_path / "in" / seed)
    models = ("--foreground-model", tmp_path / "foreground", "--anonymized-model", tmp_path / "anonymized")

    ran = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", "segment", "in", "-o", "out", *models, "--cluster", "slurm:2"],
        cwd=tmp_path,
        env=slurm_env,
        capture_output=True,
        text=True,
        timeout=800,
    )

    assert ran.returncode == 0, ran.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["n_volumes"], summary["n_failed"]) == (4, 0)
    told = subprocess.run(["squeue", "-h", "-t", "R,PD"], env=slurm_env, capture_output=True, text=True, check=True)
    assert told.stdout == ""
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".dask-jobqueue")]  # keys of the run


def test_what_a_job_asks_for_must_be_told(slurm_env: Mapping[str, str], tmp_path: Path) -> None:
    ct_series(n_slices=3).write_to(tmp_path / "in")

    ran = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", "segment", "in", "-o", "out", "--cluster", "slurm"],
        cwd=tmp_path,
        env={**slurm_env, "DASK_CONFIG": str(tmp_path / "nothing")},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert ran.returncode == 2
    assert "jobqueue.slurm" in ran.stderr
    assert not (tmp_path / "out").exists()

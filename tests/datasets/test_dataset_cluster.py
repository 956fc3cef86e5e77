"""``dataset --cluster``: the same dataset as without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.datasets.conftest import Segmented, run_command


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_dataset_made_on_a_cluster_is_the_same(segmented: Segmented, tmp_path: Path) -> None:
    plain = run_command("dataset", segmented.results, "-o", tmp_path / "plain")
    command = ["dataset", str(segmented.results), "-o", str(tmp_path / "cluster"), "--cluster", "local:2"]
    cluster = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", *command],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert cluster.returncode == plain.exit_code, cluster.stderr
    expected, found = contents(tmp_path / "plain"), contents(tmp_path / "cluster")
    assert list(found) == list(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_studies_of_a_node_are_not_taken_to_a_cluster(tmp_path: Path) -> None:
    result = run_command("dataset", "-o", tmp_path / "out", "--studies", "cleared", "--cluster", "local:2")

    assert result.exit_code == 2
    assert "is for folders" in result.stderr

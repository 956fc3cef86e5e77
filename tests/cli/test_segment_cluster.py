"""``segment --cluster``: the same results as without a cluster, and what is said where a cluster cannot be used."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import Result

from tests.factories import SyntheticSeries, ct_series, mr_series
from tests.tiny_models import write_tiny_model

TIMES = re.compile(
    rb'"(started_at|ended_at)": "[^"]*"|"timings_s": \{[^}]*\}'  # report.json, summary.json
    rb'|<td class="number">[0-9.]+</td></tr>|<p class="quiet">\S+ to \S+ UTC'  # index.html: seconds, the last column
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    root = tmp_path_factory.mktemp("models")
    for role, above in (("foreground", -500.0), ("anonymized", 750.0)):
        write_tiny_model(root / role, role, above=above, spacing_mm=(4.0, 4.0, 4.0))
    return (
        *("--foreground-model", str(root / "foreground"), "--anonymized-model", str(root / "anonymized")),
        *("--device", "cpu", "--threads", "1"),
    )


def head(seed: str) -> SyntheticSeries:
    return ct_series(n_slices=12, spacing_mm=(4.0, 4.0, 4.0), seed=seed)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series, a zip, a NIfTI file, a series with a gap and rubbish: some fail when read, one in the survey."""
    root = tmp_path_factory.mktemp("inputs") / "in"
    for seed in "ab":
        head(seed).write_to(root / seed)
    with zipfile.ZipFile(root / "c.zip", "w") as archive:
        for instance in head("c"):
            archive.writestr(instance.name, instance.part10)
    voxels = head("d").voxels.transpose(2, 1, 0).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([4.0, 4.0, 4.0, 1.0])), root / "d.nii.gz")
    whole = mr_series(n_slices=12)
    (root / "gap").mkdir()
    for number, instance in enumerate([*whole[:4], *whole[10:]]):
        (root / "gap" / f"{number}.dcm").write_bytes(instance.part10)
    (root / "rubbish.dcm").write_bytes(b"rubbish" * 100)
    return root


def segment(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node.cli", "segment", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


def tree(root: Path) -> Mapping[str, bytes]:
    """Every file below a folder by its name; of times only that they are there."""
    return {
        path.relative_to(root).as_posix(): TIMES.sub(b"TIME", path.read_bytes())
        if path.suffix in (".json", ".html")
        else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.timeout(600)
def test_a_cluster_writes_what_one_process_writes_byte_for_byte(
    run: Callable[..., Result],
    inputs: Path,
    models: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(inputs.parent)
    plain = run("segment", "in", "-o", tmp_path / "plain", *models)
    cluster = segment("in", "-o", tmp_path / "cluster", *models, "--cluster", "local:2")

    assert (plain.exit_code, cluster.returncode) == (3, 3), cluster.stderr
    expected, found = tree(tmp_path / "plain"), tree(tmp_path / "cluster")
    assert list(found) == list(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert len([name for name in expected if name.endswith("seg.dcm")]) == 3
    assert expected["summary.json"].count(b"TIME") == 2 + 4  # when it began and ended; of each volume
    said = [sorted(line for line in one.stderr.splitlines() if line.startswith("error:")) for one in (plain, cluster)]
    assert said[0] == said[1]
    assert cluster.stderr.count("Dask's dashboard: http://127.0.0.1:") == 1
    assert "Traceback" not in cluster.stderr

    again = run("segment", "in", "-o", tmp_path / "cluster", *models)  # without a cluster, and nothing is done

    assert again.stderr.count("finished earlier") == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("local:0", "0 workers are wanted"),
        ("dask:4", "expected local:4, slurm:4, tls://HOST:PORT"),
        ("tcp://192.0.2.1:8786", "use tls:// with certificates, or --cluster-plain where nobody else reaches"),
        ("tls://192.0.2.1:8786", "the cluster's CA file: is not named"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_refused_before_anything_is_done(
    run: Callable[..., Result],
    models: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    head("a").write_to(tmp_path / "in")

    result = run("segment", "in", "-o", "out", *models, "--cluster", given)

    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()

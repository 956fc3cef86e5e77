"""What ``training.evaluate`` measures is what a user gets: the same head through files, ``segment`` and the SEG."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from tests.factories import AXIAL, mr_series
from training.cohort import Member
from training.evaluation.cases import COVERED, FACE, Case
from training.evaluation.measure import compare, load_measured, measure
from training.inventory import read_inventory, read_scan
from training.labels import label_foreground

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(600)]

HEAD = "ixi150_t1"  # of the val split
MODELS = Path("inference/reference")


@pytest.fixture(scope="module")
def member(shared_data: Path) -> Member:
    entry = next(entry for entry in read_inventory(shared_data) if entry.id == HEAD)
    scan = read_scan(entry.path)
    return Member(entry, np.rint(scan.voxels), scan.affine, label_foreground(scan), None)


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_head_scores_the_same_through_the_whole_dicom_path(member: Member, is_cut: bool, tmp_path: Path) -> None:
    voxels = np.asarray(member.voxels, dtype=np.float32)
    slices, rows, _ = np.indices(voxels.shape) * np.linalg.norm(member.affine[:3, :3], axis=0).reshape(3, 1, 1, 1)
    cut = (slices + rows < 0.62 * rows.max()) if is_cut else np.zeros(voxels.shape, bool)
    first, second, third = (float(step) for step in np.linalg.norm(member.affine[:3, :3], axis=0))
    case = Case(
        "plane", "MR", np.where(cut, np.float32(0), voxels), (first, second, third), COVERED if is_cut else FACE,
        member.body & ~cut, member.body, cut if is_cut else None,
    )  # fmt: skip
    expected = measure(case, member, load_measured(MODELS))

    series = mr_series(len(voxels), spacing_mm=case.spacing_mm, orientation=AXIAL, voxels=case.voxels)
    series.write_to(tmp_path / "series")
    command = [sys.executable, "-m", "dicom_node.cli", "segment", tmp_path / "series", "--output", tmp_path / "out"]
    subprocess.run(command, check=True, capture_output=True, timeout=400)

    body, area = np.zeros(voxels.shape, bool), np.zeros(voxels.shape, bool)
    seg = hd.seg.segread(next((tmp_path / "out").rglob("seg.dcm")))
    for description in seg.SegmentSequence:
        read = seg.get_volume(segment_numbers=[description.SegmentNumber], combine_segments=True, relabel=True)
        mask = read.match_geometry(series.truth).array > 0
        (body if "oreground" in description.SegmentLabel else area)[...] = mask
    assert compare(case, body, area) == expected.result
    report = json.loads(next((tmp_path / "out").rglob("report.json")).read_text())
    assert report["verdict"] == expected.verdict.verdict
    assert expected.result.foreground_dice is not None
    assert expected.result.foreground_dice > 0.97
    if is_cut:
        assert expected.result.head_dice is not None
        assert expected.result.head_dice > 0.9

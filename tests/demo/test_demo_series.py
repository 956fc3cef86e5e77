"""The demo's series are what they claim to be, and real DICOM."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from dicom_node.demo.head import cut_face, render_head
from dicom_node.demo.series import DemoSeries, render_demo_series, write_series
from inference.series.assemble import assemble_volumes
from inference.series.files import find_inputs


@pytest.fixture(scope="module")
def series() -> dict[str, DemoSeries]:
    return {each.name: each for each in render_demo_series()}


@pytest.fixture(scope="module")
def folder(series: dict[str, DemoSeries], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    for each in series.values():
        write_series(each, root / each.name)
    return root


@pytest.fixture(scope="module")
def other_head() -> hd.Volume:
    return render_head(seed=5)


def test_the_written_series_are_read_back_voxel_by_voxel(series: dict[str, DemoSeries], folder: Path) -> None:
    inputs = find_inputs([folder])

    assert inputs.rejected == ()
    assert {found.series_instance_uid for found in inputs.series} == {
        each.series_instance_uid for each in series.values()
    }
    for found in inputs.series:
        (meant,) = (each for each in series.values() if each.series_instance_uid == found.series_instance_uid)
        (read,) = assemble_volumes(found.sources)
        assert read.modality == meant.modality
        assert np.array_equal(read.volume.match_geometry(meant.volume).array, meant.volume.array)


def test_the_three_series_differ_in_plane_and_grid(series: dict[str, DemoSeries]) -> None:
    slice_directions = {name: int(np.abs(each.volume.affine[:3, 0]).argmax()) for name, each in series.items()}

    assert slice_directions == {"head": 0, "defaced": 1, "body": 2}  # sagittal, coronal, axial


def test_the_cut_takes_the_face_and_leaves_the_brain(other_head: hd.Volume) -> None:
    head, cut = other_head, cut_face(other_head)

    removed = (head.array != 0) & (cut.array == 0)
    front_mm = np.argwhere(removed) @ head.affine[:3, :3].T + head.affine[:3, 3]
    nose = int(np.argwhere(head.array > 100)[:, 1].min())  # the array runs from left, posterior = 0 at the front
    assert removed[:, nose].any()
    assert 200 < np.count_nonzero(removed & (head.array > 100)) * head.voxel_volume / 1000 < 1500
    assert front_mm[:, 1].max() < 40  # LPS: nothing behind the middle of the head
    assert np.array_equal(cut.array[~removed], head.array[~removed])


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others(
    series: dict[str, DemoSeries], other_head: hd.Volume
) -> None:
    sent = series["head"].volume.match_geometry(other_head).array

    assert np.array_equal(render_head(seed=1).array, sent)
    assert not np.array_equal(other_head.array, sent)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["head", "defaced", "body"])
def test_an_independent_validator_finds_no_error(folder: Path, name: str) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy is not installed; `make peers` installs it on Debian")

    answer = subprocess.run(
        [validator, str(folder / name / "0007.dcm")], capture_output=True, text=True, timeout=60, check=False
    )

    assert [line for line in answer.stderr.splitlines() if line.startswith("Error")] == []

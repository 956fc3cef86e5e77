"""``dicom-node dataset``: what it writes, what it refuses, and how it ends."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest

from dicom_node.datasets.facts import nonzero_box
from tests.datasets.conftest import (
    ALTERED,
    BODY,
    N_ALTERED,
    N_BODY,
    N_VOXELS,
    SHAPE,
    Segmented,
    ct_of,
    cuboid,
    run_command,
)


@pytest.fixture(scope="module")
def out(segmented: Segmented, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of everything, written once."""
    out = tmp_path_factory.mktemp("dataset") / "out"
    result = run_command("dataset", segmented.results, "-o", out)
    assert result.exit_code == 3, result.stderr
    return out


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def contents(root: Path) -> dict[str, str]:
    """Digest of every file, and target of every link."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def volume_named(out: Path, result: str) -> dict[str, Any]:
    return next(one for one in read_json(out / "manifest.json")["volumes"] if one["result"] == result)


def voxels_of(out: Path, volume: dict[str, Any], file: str) -> np.ndarray:
    """Voxels as (slice, row, column)."""
    return np.asarray(nib.load(out / "volumes" / volume["id"] / file).dataobj).transpose(2, 1, 0)


def test_every_volume_is_used_or_refused_by_name(out: Path) -> None:
    manifest = read_json(out / "manifest.json")

    refused = {one["result"]: one["code"] for one in manifest["refused"]}
    assert refused == {
        "constant": "constant",
        "empty": "no-body",
        "holes": "not-finite",
        "mostly": "mostly-altered",
        "small": "too-small",
    }
    assert (manifest["n_volumes"], manifest["n_refused"]) == (6, 5)
    assert all((out / one["picture"]).is_file() for one in manifest["refused"])


def test_the_masks_have_as_many_ones_as_the_cuboids(out: Path) -> None:
    volume = volume_named(out, "sub-01_ses-a_T1w")

    altered, background, labels = (
        voxels_of(out, volume, f"{name}.nii.gz") for name in ("altered", "background", "labels")
    )
    assert altered.shape == SHAPE
    assert np.unique(altered).tolist() == [0, 1]
    assert np.count_nonzero(altered) == np.count_nonzero(altered[ALTERED]) == N_ALTERED
    assert np.count_nonzero(background == 0) == np.count_nonzero(background[BODY] == 0) == N_BODY
    assert np.bincount(labels.ravel()).tolist() == [N_VOXELS - N_BODY, N_BODY - N_ALTERED, N_ALTERED]
    assert volume["ones"]["anonymization_mask"] == pytest.approx(altered.mean(), abs=1e-9)
    assert volume["ones"]["anatomy_mask"] == pytest.approx(1 - 8000 / 33600, abs=1e-9)
    assert volume["altered_share"] == pytest.approx(640 / 8000)


def test_values_are_kept_as_integers_only_if_nothing_is_lost(out: Path) -> None:
    fractional = volume_named(out, "sub-01_ses-a_T1w")
    padded = volume_named(out, "padded")

    assert (fractional["dtype"], padded["dtype"]) == ("float32", "int16")
    np.testing.assert_array_equal(voxels_of(out, fractional, "image.nii.gz"), cuboid(ramp=0.25))
    filled = voxels_of(out, padded, "image.nii.gz")
    np.testing.assert_array_equal(filled[4:], cuboid(ramp=3.0)[4:])
    assert padded["n_without_number"] == 3 * 24
    assert (filled[0, :3] == -1000).all()


def test_a_dicom_volume_lies_where_its_series_does(out: Path) -> None:
    ct = ct_of("first", "P1", 4.0)
    volume = volume_named(out, ct.series_instance_uid)

    image = nib.load(out / "volumes" / volume["id"] / "image.nii.gz")
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    written = hd.Volume(np.asarray(image.dataobj), lps, coordinate_system="PATIENT")
    np.testing.assert_array_equal(written.match_geometry(ct.truth).array, ct.voxels)
    assert volume["modality"] == "CT"


def test_air_that_is_exactly_zero_is_measured_as_the_crop_sees_it(out: Path) -> None:
    volume = volume_named(out, "sub-01_ses-b_T1w")

    assert volume["exact_zero_air"] == pytest.approx(2 * 68 * 4 / (10 * 68 * 16))
    assert volume_named(out, "padded")["exact_zero_air"] == 0


def test_a_persons_volumes_are_one_subject_and_a_placeholder_is_no_person(out: Path) -> None:
    volumes = read_json(out / "manifest.json")["volumes"]

    by_subject: dict[str, list[dict[str, Any]]] = {}
    for volume in volumes:
        by_subject.setdefault(volume["subject"], []).append(volume)
    sizes = {len(group): {len({one["session"] for one in group})} for group in by_subject.values()}
    assert sorted(map(len, by_subject.values())) == [1, 1, 2, 2]
    assert sizes == {1: {1}, 2: {2}}
    a, b = (volume_named(out, f"sub-01_ses-{session}_T1w")["subject"] for session in "ab")
    assert a == b


def test_no_name_of_a_patient_is_written(out: Path) -> None:
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes() if path.suffix != ".gz" else nib.load(path).header.binaryblock
            assert b"Doe" not in content, path


def test_two_processes_write_the_same_bytes(out: Path, segmented: Segmented, tmp_path: Path) -> None:
    result = run_command("dataset", segmented.results, "-o", tmp_path / "again", "--workers", "2")

    assert result.exit_code == 3, result.stderr
    assert contents(tmp_path / "again") == contents(out)


def test_a_second_run_writes_only_what_is_missing(out: Path, segmented: Segmented, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(out, copy, symlinks=True)
    lost, kept = sorted((copy / "volumes").iterdir())[:2]
    before = (kept / "image.nii.gz").stat().st_mtime_ns
    (lost / "labels.nii.gz").unlink()
    (copy / "prepared").mkdir()  # of `pretrain`

    result = run_command("dataset", segmented.results, "-o", copy)

    assert "(1 new)" in result.stdout
    assert (kept / "image.nii.gz").stat().st_mtime_ns == before
    assert (copy / "prepared").is_dir()
    assert contents(copy) == contents(out)


def test_what_a_killed_segment_run_left_is_no_result(segmented: Segmented, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(segmented.results / "padded", results / ".partial-padded")

    result = run_command("dataset", results, "-o", tmp_path / "out", "--images", segmented.images)

    assert result.exit_code == 2
    assert "report.json" in result.stderr


def test_another_mask_is_written_again(segmented: Segmented, tmp_path: Path) -> None:
    results = tmp_path / "results"
    (results / "padded").parent.mkdir()
    shutil.copytree(segmented.results / "padded", results / "padded")
    command = ("dataset", results, "-o", tmp_path / "out", "--images", segmented.images, "--layout", "nnunet")
    assert run_command(*command).exit_code == 0
    shutil.copy(results / "padded" / "foreground.nii.gz", results / "padded" / "anonymized.nii.gz")

    result = run_command(*command)

    assert result.exit_code == 3
    assert "mostly-altered" in result.stderr


def test_images_that_moved_or_changed_are_named(segmented: Segmented, tmp_path: Path) -> None:
    results, images = tmp_path / "results", tmp_path / "images"
    shutil.copytree(segmented.results / "padded", results / "padded")

    nowhere = run_command("dataset", results, "-o", tmp_path / "out")
    images.mkdir()
    shutil.copy(segmented.images / "constant.nii.gz", images / "padded.nii.gz")
    other = run_command("dataset", results, "-o", tmp_path / "out", "--images", images)
    shutil.copy(segmented.images / "padded.nii.gz", images / "padded.nii.gz")
    found = run_command("dataset", results, "-o", tmp_path / "out", "--images", images)

    assert [one.exit_code for one in (nowhere, other, found)] == [3, 3, 0]
    assert "image-missing" in nowhere.stderr
    assert "--images" in nowhere.stderr
    assert "image-changed" in other.stderr


def test_a_mask_on_another_grid_is_refused(segmented: Segmented, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(segmented.results / "padded", results / "padded")
    mask = results / "padded" / "anonymized.nii.gz"
    image = nib.load(mask)
    moved = image.affine.copy()
    moved[2, 3] += 1.0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), mask)

    result = run_command("dataset", results, "-o", tmp_path / "out", "--images", segmented.images)

    assert result.exit_code == 3
    assert "lies up to 1.00 mm away from the image" in result.stderr


def test_a_result_that_is_named_twice_is_used_once(segmented: Segmented, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        shutil.copytree(segmented.results / "padded", tmp_path / folder / "padded")

    result = run_command(
        "dataset", tmp_path / "one", tmp_path / "two", "-o", tmp_path / "out", "--images", segmented.images
    )

    assert result.exit_code == 0, result.stderr
    assert [one["result"] for one in read_json(tmp_path / "out" / "manifest.json")["repeated"]] == ["padded"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--layout", "nnssl,other"), "choose from"),
        (("--name", "two words"), "only letters and digits"),
        (("--number", "0"), "--number"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    segmented: Segmented, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    result = run_command("dataset", segmented.results, "-o", tmp_path / "out", *options)

    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_without_results_and_a_foreign_output_are_refused(segmented: Segmented, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")

    barren = run_command("dataset", segmented.images, "-o", tmp_path / "out")
    foreign = run_command("dataset", segmented.results, "-o", tmp_path / "mine")
    same = run_command("dataset", segmented.results, "-o", segmented.results)

    assert [one.exit_code for one in (barren, foreign, same)] == [2, 2, 2]
    assert "report.json" in barren.stderr
    assert "thesis.txt" in foreign.stderr
    assert "one of the sources" in same.stderr
    assert not (tmp_path / "out").exists()


def test_a_check_names_what_was_changed_or_lost(out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(out, copy, symlinks=True)
    fine = run_command("dataset", "--check", "-o", copy)
    one, two = sorted((copy / "volumes").iterdir())[:2]
    (one / "altered.nii.gz").write_bytes((one / "background.nii.gz").read_bytes())
    (two / "image.nii.gz").unlink()

    checked = run_command("dataset", "--check", "-o", copy)
    barren = run_command("dataset", "--check", "-o", tmp_path)

    assert (fine.exit_code, fine.stdout) == (0, "6 volumes, 0 faults\n")
    assert checked.exit_code == 3
    assert f"{one / 'altered.nii.gz'}: changed" in checked.stderr
    assert f"{two / 'image.nii.gz'}: missing" in checked.stderr
    assert checked.stderr.count("leads nowhere") == 3  # a link in each layout
    assert barren.exit_code == 2
    assert "holds no manifest.json" in barren.stderr


@pytest.mark.parametrize("is_exchanged", [False, True])
def test_a_check_sees_whether_nnssl_exchanged_the_masks(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_exchanged: bool
) -> None:
    blosc2 = pytest.importorskip("blosc2")
    manifest = read_json(out / "manifest.json")
    endings = ["__anat", "__anon"] if is_exchanged else ["__anon", "__anat"]
    for volume in manifest["volumes"]:  # where nnssl writes them, cropped by a voxel, -1 where air is exactly zero
        folder = tmp_path / manifest["name"] / "nnsslPlans_noresample" / volume["subject"]
        folder.mkdir(parents=True, exist_ok=True)
        for file, ending in zip(("altered.nii.gz", "background.nii.gz"), endings, strict=True):
            mask = voxels_of(out, volume, file).astype(np.float32)
            if volume["exact_zero_air"]:
                box, outside = nonzero_box(voxels_of(out, volume, "image.nii.gz"))
                mask = np.where(outside, -1.0, mask[box]).astype(np.float32)
            mask = mask[None, 1:]
            blosc2.asarray(np.ascontiguousarray(mask), urlpath=str(folder / f"{volume['id']}{ending}.b2nd"), mode="w")
    monkeypatch.setenv("nnssl_preprocessed", str(tmp_path))

    checked = run_command("dataset", "--check", "-o", out)

    assert checked.exit_code == (3 if is_exchanged else 0)
    assert checked.stdout == f"6 volumes, 10 masks of nnssl, {int(is_exchanged)} faults\n"
    assert ("10 of 10 masks hold what belongs in the other one" in checked.stderr) is is_exchanged


def test_a_check_says_when_nnssl_made_nothing_of_the_dataset(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnssl_preprocessed", str(tmp_path))
    not_yet = run_command("dataset", "--check", "-o", out)
    (tmp_path / read_json(out / "manifest.json")["name"]).mkdir()

    checked = run_command("dataset", "--check", "-o", out)

    assert (not_yet.exit_code, not_yet.stdout) == (0, "6 volumes, 0 masks of nnssl, 0 faults\n")
    assert checked.exit_code == 3
    assert "holds no masks of this dataset" in checked.stderr


def test_the_page_shows_every_volume_and_refusal(out: Path) -> None:
    page = (out / "index.html").read_text()
    manifest = read_json(out / "manifest.json")

    assert all(f'src="volumes/{one["id"]}/overlay.png"' in page for one in manifest["volumes"])
    assert all(f'src="{one["picture"]}"' in page and one["code"] in page for one in manifest["refused"])
    assert "<script" not in page

"""The layouts, as the programs that they are for read them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dicom_node.datasets.layouts import Entry, split_by_subject
from dicom_node.datasets.subjects import Place
from tests.datasets.conftest import Segmented, run_command


@pytest.fixture(scope="module")
def out(segmented: Segmented, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("layouts") / "out"
    result = run_command("dataset", segmented.results, "-o", out, "--number", "17", "--name", "Cuboids")
    assert result.exit_code == 3, result.stderr
    return out


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def nnssl_images(out: Path) -> list[dict[str, Any]]:
    data = read_json(out / "nnssl" / "Dataset017_Cuboids" / "pretrain_data.json")
    return [
        image
        for subject in data["datasets"]["1"]["subjects"].values()
        for session in subject["sessions"].values()
        for image in session["images"]
    ]


def resolved(out: Path, path: str) -> Path:
    """As nnssl resolves a path: the name after the dollar is a variable of the environment."""
    start, rest = path.split("/", 1)
    assert start == "$nnssl_raw"
    return out / "nnssl" / rest


def share_of_ones(path: Path) -> float:
    voxels = np.asarray(nib.load(path).dataobj)
    assert set(np.unique(voxels)) <= {0, 1}
    return float(voxels.mean())


def test_pretrain_data_has_every_key_that_nnssl_reads_and_no_other(out: Path) -> None:
    data = read_json(out / "nnssl" / "Dataset017_Cuboids" / "pretrain_data.json")

    assert list(data) == ["collection_index", "collection_name", "datasets"]
    assert (data["collection_index"], data["collection_name"]) == (17, "Dataset017_Cuboids")
    (key,) = data["datasets"]
    dataset = data["datasets"][key]
    assert key == str(dataset["dataset_index"])
    assert set(dataset) == {"dataset_index", "name", "dataset_info", "subjects"}
    for subject_id, subject in dataset["subjects"].items():
        assert set(subject) == {"subject_id", "subject_info", "sessions"}
        assert subject["subject_id"] == subject_id
        for session_id, session in subject["sessions"].items():
            assert set(session) == {"session_id", "session_info", "images"}
            assert session["session_id"] == session_id
    images = nnssl_images(out)
    assert len(images) == len({image["name"] for image in images}) == 6
    for image in images:
        assert set(image) == {"name", "modality", "image_info", "image_path", "associated_masks"}
        assert set(image["associated_masks"]) == {"anonymization_mask", "anatomy_mask"}


def test_nnssl_masks_mean_altered_and_background(out: Path) -> None:
    ones = {one["id"]: one["ones"] for one in read_json(out / "manifest.json")["volumes"]}

    for image in nnssl_images(out):
        expected = ones[image["name"].removesuffix(".nii.gz")]
        for key, path in image["associated_masks"].items():
            assert share_of_ones(resolved(out, path)) == pytest.approx(expected[key], abs=1e-9)
        background = np.asarray(nib.load(resolved(out, image["associated_masks"]["anatomy_mask"])).dataobj)
        assert background[0, 0, 0] == 1
        assert nib.load(resolved(out, image["image_path"])).shape == background.shape


@pytest.mark.parametrize("mode", ["compat", "anon-only"])
def test_the_other_modes_swap_the_paths_or_leave_one_out(
    out: Path, segmented: Segmented, tmp_path: Path, mode: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(out, copy, symlinks=True)
    documented = {image["name"]: image["associated_masks"] for image in nnssl_images(copy)}

    options = ("--number", "17", "--name", "Cuboids", "--masks", mode, "--layout", "nnssl")
    result = run_command("dataset", segmented.results, "-o", copy, *options)

    assert "(0 new)" in result.stdout
    assert read_json(copy / "manifest.json")["masks"] == mode
    assert not (copy / "nnunet").exists()
    for image in nnssl_images(copy):
        told, before = image["associated_masks"], documented[image["name"]]
        if mode == "compat":
            assert (told["anonymization_mask"], told["anatomy_mask"]) == (
                before["anatomy_mask"],
                before["anonymization_mask"],
            )
        else:
            assert told == {**before, "anatomy_mask": None}


def test_stock_nnunet_takes_every_case(out: Path) -> None:
    integrity = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity")
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.utilities.label_handling.label_handling import LabelManager
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    folder = out / "nnunet" / "Dataset017_Cuboids"
    description = read_json(folder / "dataset.json")
    cases = get_filenames_of_train_images_and_targets(str(folder), description)

    assert len(cases) == description["numTraining"] == 6
    labels = LabelManager(description["labels"], regions_class_order=None)
    assert (labels.foreground_labels, labels.ignore_label) == ([1], 2)
    for case in cases.values():
        assert integrity.check_cases(case["images"], case["label"], len(description["channel_names"]), SimpleITKIO)
        assert integrity.verify_labels(case["label"], SimpleITKIO, [0, 1, 2])


def test_folds_keep_a_persons_volumes_together() -> None:
    entries = [
        Entry({"id": f"v{subject}{session}"}, Place(f"sub-{subject}", f"ses-{session}"))
        for subject in range(7)
        for session in range(2)
    ]

    folds = split_by_subject(entries)

    assert len(folds) == 5
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(entry.id for entry in entries)
    for fold in folds:
        assert not {case[1] for case in fold["train"]} & {case[1] for case in fold["val"]}
        assert len(fold["train"]) + len(fold["val"]) == 14
    assert split_by_subject(entries[:8]) == []


def test_openmind_has_its_table_and_its_folders(out: Path) -> None:
    root = out / "openmind"
    with (root / "openneuro_metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ones = {one["id"]: one["ones"] for one in read_json(out / "manifest.json")["volumes"]}

    assert len(rows) == 6
    for row in rows:
        dataset, subject, session, kind, image = row["image_path"].split("/")
        volume = image.removesuffix(".nii.gz")
        assert (dataset, kind) == (row["unique_id"][:8], "anat")
        assert subject.startswith("sub-")
        assert session.startswith("ses-")
        assert row["anon_mask_path"] == f"{dataset}/{subject}/{session}/anat/{volume}__Data/deface_mask.nii.gz"
        assert row["anat_mask_path"] == f"{dataset}/{subject}/{session}/anat/{volume}__Data/fb_mask.nii.gz"
        assert (root / "OpenMind" / row["image_path"]).is_file()
        altered = share_of_ones(root / "OpenMind" / row["anon_mask_path"])
        background = share_of_ones(root / "OpenMind" / row["anat_mask_path"])
        assert {"anonymization_mask": altered, "anatomy_mask": background} == pytest.approx(ones[volume], abs=1e-9)


def test_the_dataset_can_be_moved_and_files_of_others_in_it_stay(
    out: Path, segmented: Segmented, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.copytree(out, moved, symlinks=True)
    (moved / "nnunet" / "Dataset017_Cuboids" / "notes.txt").write_text("mine")

    assert all(resolved(moved, image["image_path"]).is_file() for image in nnssl_images(moved))
    assert all(not path.readlink().is_absolute() for path in moved.rglob("*") if path.is_symlink())
    run_command("dataset", segmented.results, "-o", moved, "--layout", "openmind")

    assert [path.name for path in (moved / "nnunet").rglob("*")] == ["Dataset017_Cuboids", "notes.txt"]
    assert not (moved / "nnssl").exists()

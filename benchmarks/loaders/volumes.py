"""The same 1 mm heads for every program; each program prepares them with its own stock commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.pretraining.heads import cut_face, fill_cut
from training.inventory import Entry, Scan, read_inventory, read_scan
from training.labels import label_foreground

N_HEADS = 6  # nnssl wants as many people
NUMBER, NAME = 801, "Dataset801_Heads"
CONFIGURATION = "onemmiso"
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])  # arrays go to head, back and left; NIfTI to right, front and head


def write_heads(data: Path, work: Path) -> None:
    """Write a dataset as ``dicom-node dataset`` does, unless it is there: image and both masks of each head."""
    for number, entry in enumerate(_entries(data)):
        folder = work / "dataset" / "volumes" / entry.id
        if (folder / "background.nii.gz").is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        scan = read_scan(entry.path)
        voxels = ndimage.zoom(scan.voxels, scan.spacing_mm, order=1, grid_mode=True, mode="nearest")
        body = _body(voxels)
        rng = np.random.default_rng(number)
        cut = cut_face(body, rng) if number % 2 else np.zeros_like(body)
        if cut.any():
            voxels = fill_cut(voxels, body, cut, rng)
        _save(voxels.astype(np.float32), folder / "image.nii.gz")
        _save((cut & body).astype(np.uint8), folder / "altered.nii.gz")
        _save((~body).astype(np.uint8), folder / "background.nii.gz")


def _body(voxels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the body, found at 3 mm."""
    coarse = label_foreground(Scan(voxels[::3, ::3, ::3], np.diag([3.0, 3.0, 3.0, 1.0])))
    fine = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return np.ascontiguousarray(fine[: voxels.shape[0], : voxels.shape[1], : voxels.shape[2]])


def _entries(data: Path) -> list[Entry]:
    found = [
        entry
        for entry in read_inventory(data)
        if (entry.split, entry.modality, entry.body_part, entry.face) == ("train", "MR", "head", "intact")
        and entry.id.startswith("ixi")
    ]
    return found[:N_HEADS]


def _save(array: NDArray[np.float32] | NDArray[np.uint8], path: Path) -> None:
    nib.save(nib.Nifti1Image(array.T, AFFINE), path)


def heads(work: Path) -> list[Path]:
    """Return the folders of the heads."""
    return sorted((work / "dataset" / "volumes").iterdir())


def prepare_nnssl(work: Path, python: Path) -> dict[str, str]:
    """Run nnssl's fingerprint, plans and preprocessing at 1 mm; return its environment."""
    raw = work / "nnssl_raw" / NAME
    environment = {f"nnssl_{name}": str(work / f"nnssl_{name}") for name in ("raw", "preprocessed", "results")}
    done = work / "nnssl_preprocessed" / "done"
    if not done.is_file():
        raw.mkdir(parents=True, exist_ok=True)
        (raw / "pretrain_data.json").write_text(json.dumps(_collection(work)), "utf-8")
        for command in (
            ["nnssl_extract_fingerprint", "-d", NUMBER, "-np", 1],
            ["nnssl_plan_experiment", "-d", NUMBER],
            ["nnssl_preprocess", "-d", NUMBER, "-c", CONFIGURATION, "-np", 1],
        ):
            _run([str(python.parent / str(command[0])), *map(str, command[1:])], environment)
        done.touch()
    return environment


def _collection(work: Path) -> dict[str, object]:
    subjects = {}
    for head in heads(work):
        masks = {"anonymization_mask": str(head / "altered.nii.gz"), "anatomy_mask": str(head / "background.nii.gz")}
        image = {"name": f"{head.name}.nii.gz", "modality": "MR", "image_info": {}}
        image |= {"image_path": str(head / "image.nii.gz"), "associated_masks": masks}
        session = {"session_id": "1", "session_info": None, "images": [image]}
        subjects[head.name] = {"subject_id": head.name, "subject_info": None, "sessions": {"1": session}}
    dataset = {"dataset_index": "1", "name": "heads", "dataset_info": None, "subjects": subjects}
    return {"collection_index": NUMBER, "collection_name": NAME, "datasets": {"1": dataset}}


def prepare_nnunet(work: Path) -> Path:
    """Run nnU-Net's preprocessing at 1 mm, with the body as label; return the folder of preprocessed cases."""
    raw, preprocessed = work / "nnunet_raw" / NAME, work / "nnunet_preprocessed"
    cases = preprocessed / NAME / "nnUNetPlans_3d_fullres"
    if not (cases / "done").is_file():
        for head in heads(work):
            for folder in ("imagesTr", "labelsTr"):
                (raw / folder).mkdir(parents=True, exist_ok=True)
            link = raw / "imagesTr" / f"{head.name}_0000.nii.gz"
            link.unlink(missing_ok=True)
            link.symlink_to((head / "image.nii.gz").resolve())
            background = np.asarray(nib.load(head / "background.nii.gz").dataobj)
            _save((1 - background).astype(np.uint8).T, raw / "labelsTr" / f"{head.name}.nii.gz")
        settings = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "body": 1}}
        (raw / "dataset.json").write_text(
            json.dumps({**settings, "numTraining": N_HEADS, "file_ending": ".nii.gz"}), "utf-8"
        )
        environment = {"nnUNet_raw": str(raw.parent), "nnUNet_preprocessed": str(preprocessed)}
        environment["nnUNet_results"] = str(work / "nnunet_results")
        command = ["nnUNetv2_plan_and_preprocess", "-d", str(NUMBER), "-c", "3d_fullres", "-np", "1", "-npfp", "1"]
        _run([str(Path(sys.executable).parent / command[0]), *command[1:]], environment)
        (cases / "done").touch()
    return cases


def unpack_for_anatomask(cases: Path, work: Path) -> Path:
    """Return a folder with the same cases as AnatoMask's older nnU-Net unpacks them: ``.npy``, to be memory-mapped."""
    import blosc2

    folder = work / "anatomask"
    for path in sorted(cases.glob("*.pkl")):
        if (folder / path.name).is_file():
            continue
        folder.mkdir(exist_ok=True)
        case = path.stem
        np.save(folder / f"{case}.npy", np.asarray(blosc2.open(str(cases / f"{case}.b2nd"))[:], np.float32))
        np.save(folder / f"{case}_seg.npy", np.asarray(blosc2.open(str(cases / f"{case}_seg.b2nd"))[:], np.int8))
        (folder / f"{case}.npz").touch()  # its cases are listed by this name, and not read
        shutil.copy(path, folder / path.name)
    return folder


def _run(command: list[str], environment: dict[str, str]) -> None:
    answer = subprocess.run(
        command, env={**os.environ, **environment}, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if answer.returncode:
        raise SystemExit(f"{command[0]} failed:\n{answer.stdout.decode(errors='replace')[-2000:]}")

"""Synthetic heads as NIfTI files, to try pretraining with: unlabelled ones, and a small labelled dataset of nnU-Net.

All have one anatomy, in several sizes, mirrored, with other noise and shading. They show that commands work; nothing
can be learned from them about methods.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import highdicom as hd
import numpy as np

from dicom_node.demo.head import brain_mask, cut_face, render_head
from inference.series.nifti_masks import write_nifti_volume

IMAGES: Final = "images"
TARGET: Final = "Dataset501_Brain"
STEP: Final = 2  # every second voxel along each axis: 3 mm
SIZES: Final = (1.0, 0.94, 1.06, 0.97, 1.03)
ORIENTATION: Final = "HPL"  # slice, row, column
FIRST_LABELLED_SEED: Final = 1000
N_LABELLED: Final = 5  # as many as nnU-Net has folds


def write_heads(folder: Path, n_images: int, *, on_head: Callable[[], None] = lambda: None) -> None:
    """Write ``images/sub-NN_T1w.nii.gz``, every second one without its face, and ``nnUNet_raw/Dataset501_Brain``.

    The same number gives the same files.
    """
    images = folder / IMAGES
    images.mkdir(parents=True, exist_ok=True)
    for number in range(1, n_images + 1):
        head, _ = _head(number)
        _write(images / f"sub-{number:02d}_T1w.nii.gz", cut_face(head) if number % 2 == 0 else head)
        on_head()
    target = folder / "nnUNet_raw" / TARGET
    for part in ("imagesTr", "labelsTr"):
        (target / part).mkdir(parents=True, exist_ok=True)
    for number in range(N_LABELLED):
        head, is_mirrored = _head(FIRST_LABELLED_SEED + number)
        _write(target / "imagesTr" / f"head{number}_0000.nii.gz", head)
        _write(target / "labelsTr" / f"head{number}.nii.gz", head.with_array(brain_mask(is_mirrored=is_mirrored)))
        on_head()
    description = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "brain": 1},
        "numTraining": N_LABELLED,
        "file_ending": ".nii.gz",
    }
    (target / "dataset.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _head(seed: int) -> tuple[hd.Volume, bool]:
    is_mirrored = seed % 3 == 0
    return render_head(seed=seed, size=SIZES[seed % len(SIZES)], is_mirrored=is_mirrored), is_mirrored


def _write(path: Path, head: hd.Volume) -> None:
    """Write every second voxel, as int16 or, if it is that already, as uint8."""
    affine = head.affine.copy()
    affine[:3, :3] *= STEP
    every_second = np.ascontiguousarray(head.array[::STEP, ::STEP, ::STEP])
    volume = hd.Volume(every_second, affine, coordinate_system="PATIENT").to_patient_orientation(ORIENTATION)
    voxels = volume.array if volume.array.dtype == np.uint8 else volume.array.astype(np.int16)
    write_nifti_volume(path, voxels, volume.get_geometry())

"""The pictures of the model cards, on an IXI head: ``python -m training.pictures --data DATA --work WORK``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inference.nnunet.preprocessing import Preprocessing
from inference.nnunet.trained_model import TrainedModel, load_trained_model
from training.cohort import load_cohort
from training.defacing import Scene, deface
from training.evaluate import predict, scenes
from training.reference.network import DESIGNS
from training.samples import CHANNEL_NAMES

HEAD = "ixi150_t1"
DONOR = "ixi180_t1"
SHOWN = ("pydeface", "quickshear", "mri_deface", "shell", "fsl_deface", "box", "reface")
ZOOM = 2
BODY, FOUND, TRUTH = (80, 220, 90), (255, 70, 60), (70, 150, 255)


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("inference/reference"))
    parser.add_argument("--out", type=Path, default=Path("docs/models"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cohort = load_cohort(arguments.data, arguments.work, frozenset({"val"}))
    heads = {
        member.entry.id: scene
        for member in cohort.members
        if member.entry.id in (HEAD, DONOR)
        for _, scene in scenes(member, cohort)
    }
    models = {
        role: load_trained_model(arguments.models / role, channels=CHANNEL_NAMES, device=torch.device("cpu"))
        for role in DESIGNS
    }
    draw_foreground(heads[HEAD], models["foreground"]).save(arguments.out / "foreground.png")
    draw_anonymized(heads[HEAD], heads[DONOR], models["anonymized"]).save(arguments.out / "anonymization.png")


def draw_foreground(scene: Scene, model: TrainedModel) -> Image.Image:
    """Three planes of an intact head with the found body."""
    found = labels_of(scene.voxels, scene, model) > 0
    planes = []
    for index in planes_through_the_middle(scene.voxels.shape):
        gray = scene.voxels[index][::-1] if index[0] == slice(None) else scene.voxels[index]
        mask = found[index][::-1] if index[0] == slice(None) else found[index]
        planes.append(outlined(gray, [(mask, BODY)]))
    return beside(planes)


def draw_anonymized(scene: Scene, donor: Scene, model: TrainedModel) -> Image.Image:
    """The middle of the head under each tool: what was changed (blue) and what was found (red)."""
    middle = (slice(None), slice(None), scene.voxels.shape[2] // 2)
    pictures = []
    for index, family in enumerate(("intact", *SHOWN)):
        voxels, changed = scene.voxels, np.zeros(scene.body.shape, bool)
        if family != "intact":
            change = deface(scene, family, np.random.default_rng([11, index]), donor=donor)
            voxels, changed = change.voxels, (change.removed | change.altered) & (scene.body | change.body)
        found = labels_of(voxels, scene, model) > 0
        pictures.append(outlined(voxels[middle][::-1], [(changed[middle][::-1], TRUTH), (found[middle][::-1], FOUND)]))
    return beside(pictures, per_row=4)


def labels_of(voxels: NDArray[np.float32], scene: Scene, model: TrainedModel) -> NDArray[np.uint8]:
    """The model's labels on the scan's grid."""
    return predict(model, Preprocessing(voxels, [float(step) for step in scene.spacing_mm]))


def planes_through_the_middle(shape: tuple[int, ...]) -> list[tuple[int | slice, ...]]:
    """Sagittal, coronal and axial index of a (slice, row, column) volume."""
    return [
        (slice(None), slice(None), shape[2] // 2),
        (slice(None), shape[1] // 2, slice(None)),
        (shape[0] // 2, slice(None), slice(None)),
    ]


def outlined(
    gray: NDArray[np.float32], masks: list[tuple[NDArray[np.bool_], tuple[int, int, int]]]
) -> NDArray[np.uint8]:
    """An enlarged plane with the outlines of masks."""
    low, high = np.percentile(gray, [1.0, 99.5])
    scaled = np.clip((gray - low) / max(float(high - low), 1e-6), 0, 1)
    large = ndimage.zoom(scaled, ZOOM, order=1, mode="nearest", grid_mode=True)
    picture = np.repeat((255 * large).astype(np.uint8)[..., None], 3, axis=-1)
    for mask, colour in masks:
        grown = np.kron(mask, np.ones((ZOOM, ZOOM), bool)).astype(bool)
        picture[grown & ~ndimage.binary_erosion(grown)] = colour
    return picture


def beside(pictures: list[NDArray[np.uint8]], *, per_row: int = 3) -> Image.Image:
    """Pictures in rows, padded to one size."""
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    n_rows = -(-len(pictures) // per_row)
    sheet = np.zeros((n_rows * height, per_row * width, 3), np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // per_row * height, index % per_row * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return Image.fromarray(sheet).quantize(64)


if __name__ == "__main__":
    main()

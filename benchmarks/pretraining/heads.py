"""Real MR heads to pretrain on: 3 mm, a body mask by a classical method, the face of two in three cut off."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.pretraining.protocol import SPACING_MM
from pretraining.dataset import ArrayVolume
from training.cohort import NO_FOREGROUND_LABEL
from training.inventory import Entry, Scan, read_inventory, read_scan
from training.labels import label_foreground

log = logging.getLogger(__name__)
ALTERED_SHARE = 0.67  # of the heads
CUT_SHARES = (0.08, 0.15)  # of the body
FILLS = ("zero", "constant", "noise", "blur")


def read_heads(data: Path, work: Path, split: str, *, limit: int | None = None) -> list[ArrayVolume]:
    """Return the intact MR heads of a split; the normalised image of each uses body that was not altered."""
    entries = [
        entry
        for entry in read_inventory(data)
        if (entry.split, entry.modality, entry.body_part, entry.face) == (split, "MR", "head", "intact")
        and entry.id not in NO_FOREGROUND_LABEL
    ]
    return [_read(entry, work, number) for number, entry in enumerate(entries[:limit])]


def without_masks(volume: ArrayVolume) -> ArrayVolume:
    """Return the volume as a method without masks gets it: normalised over all voxels."""
    mean, deviation = float(volume.image.mean()), float(volume.image.std())
    image = ((volume.image - mean) / deviation).astype(np.float32)
    return replace(volume, image=image, air=float((volume.air - mean) / deviation))


def _read(entry: Entry, work: Path, number: int) -> ArrayVolume:
    path = work / "heads" / f"{entry.id}.npz"
    if not path.is_file():
        log.info("head %s", entry.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        image, body, altered = prepare_head(read_scan(entry.path), np.random.default_rng(number))
        with (part := path.with_suffix(".part")).open("wb") as file:
            np.savez_compressed(file, image=image.astype(np.float16), body=body, altered=altered)
        part.replace(path)
    kept = np.load(path)
    image = kept["image"].astype(np.float32)
    return ArrayVolume(entry.id, image, kept["body"], kept["altered"], float(np.percentile(image, 1)))


def prepare_head(
    scan: Scan, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return image, body and altered voxels (slice, row, column) of a head, often with its face cut off."""
    voxels = ndimage.zoom(scan.voxels, scan.spacing_mm / SPACING_MM, order=1, grid_mode=True, mode="nearest")
    body = label_foreground(Scan(voxels, np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])))
    altered = np.zeros_like(body)
    if rng.random() < ALTERED_SHARE:
        cut = cut_face(body, rng)
        voxels, altered = fill_cut(voxels, body, cut, rng), cut & body
    true_body = voxels[body & ~altered]
    image = (voxels - true_body.mean()) / true_body.std()
    return np.asarray(image, dtype=np.float32), body, altered


def cut_face(body: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the half-space in front of an oblique plane; indices increase towards head, posterior and left."""
    direction = np.array([rng.uniform(-0.9, -0.2), -1.0, rng.uniform(-0.2, 0.2)])
    places = np.indices(body.shape, dtype=np.float32)
    along = np.tensordot(direction.astype(np.float32), places, 1)
    return np.asarray(along > np.quantile(along[body], 1 - rng.uniform(*CUT_SHARES)))


def fill_cut(
    voxels: NDArray[np.float32], body: NDArray[np.bool_], cut: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the voxels with what was cut replaced."""
    level = float(voxels[body].mean())
    match FILLS[rng.integers(len(FILLS))]:
        case "zero":
            filling = np.zeros_like(voxels)
        case "constant":
            filling = np.full_like(voxels, level * rng.uniform(0.2, 1.2))
        case "noise":
            filling = rng.normal(level, 0.5 * level, voxels.shape).astype(np.float32)
        case _:
            filling = ndimage.gaussian_filter(voxels, 4.0)
    return np.where(cut, filling, voxels)

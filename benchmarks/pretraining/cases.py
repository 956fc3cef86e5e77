"""Heads to fine-tune and to test on: label maps, rendered with a contrast, a bias field and noise of their own."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.pretraining.protocol import Protocol
from training.inventory import Entry, read_inventory, read_scan
from training.synthesis import group_labels, render_mr

log = logging.getLogger(__name__)
STEP = 3  # label maps have 1 mm voxels
# FreeSurfer's numbers of the four targets, in the order of ``protocol.TARGETS``.
TARGET_LABELS: tuple[tuple[int, ...], ...] = (
    (2, 41, 77, 251, 252, 253, 254, 255),
    (3, 42),
    (7, 8, 16, 46, 47),
    (4, 5, 10, 11, 12, 13, 14, 15, 17, 18, 26, 28, 43, 44, 49, 50, 51, 52, 53, 54, 58, 60),
)


@dataclass(frozen=True, slots=True, eq=False)
class LabelHead:
    """One label map at 3 mm: tissue groups to render from, and targets, both (slice, row, column)."""

    id: str
    groups: NDArray[np.uint8]
    target: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A rendered head: z-scored image and target, (slice, row, column), cropped to the brain and some voxels around."""

    id: str
    image: NDArray[np.float32]
    target: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LabelHeads:
    """Who is used for what; nobody has two roles, except that the control's heads have that of nothing else."""

    train: tuple[LabelHead, ...]
    choice: tuple[LabelHead, ...]
    test: tuple[LabelHead, ...]
    control: tuple[LabelHead, ...]


def read_label_heads(data: Path, work: Path, protocol: Protocol) -> LabelHeads:
    """Return the label maps, each in one role; the one of the validation split helps to choose rates."""
    entries = [entry for entry in read_inventory(data) if entry.modality == "labels"]
    entries.sort(key=lambda entry: (entry.split != "val", entry.id))
    heads = [_read(entry, work) for entry in entries]
    first = protocol.n_choice_heads
    second = first + protocol.n_train_heads
    third = second + protocol.n_test_heads
    return LabelHeads(
        tuple(heads[first:second]), tuple(heads[:first]), tuple(heads[second:third]), tuple(heads[third:])
    )


def _read(entry: Entry, work: Path) -> LabelHead:
    path = work / "label_heads" / f"{entry.id}.npz"
    if not path.is_file():
        log.info("label map %s", entry.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = read_scan(entry.path).voxels[1::STEP, 1::STEP, 1::STEP]
        with (part := path.with_suffix(".part")).open("wb") as file:
            np.savez_compressed(file, groups=group_labels(labels), target=targets_of(labels))
        part.replace(path)
    kept = np.load(path)
    return LabelHead(entry.id, kept["groups"], kept["target"])


def targets_of(labels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a label map with the targets as 1 to 4 and everything else as 0."""
    target = np.zeros(labels.shape, np.uint8)
    for number, numbers in enumerate(TARGET_LABELS, start=1):
        target[np.isin(labels, numbers)] = number
    return target


def render(head: LabelHead, rng: np.random.Generator, *, multiple: int = 8, margin: int = 4) -> Case:
    """Render a head and crop it to the brain, a multiple of voxels along each axis."""
    image = render_mr(head.groups, rng)
    field = ndimage.gaussian_filter(rng.normal(size=image.shape), 12.0)
    image = image * np.exp(rng.uniform(0.1, 0.4) * field / field.std()).astype(np.float32)
    image = ((image - image.mean()) / image.std()).astype(np.float32)
    window = []
    for axis in range(3):
        found = np.flatnonzero(head.target.any(tuple(other for other in range(3) if other != axis)))
        low, high = int(found[0]) - margin, int(found[-1]) + 1 + margin
        size = -(-(high - low) // multiple) * multiple
        window.append((low, low + size))
    inner = tuple(slice(max(low, 0), min(high, size)) for (low, high), size in zip(window, image.shape, strict=True))
    widths = [(max(-low, 0), max(high - size, 0)) for (low, high), size in zip(window, image.shape, strict=True)]
    return Case(
        head.id,
        np.pad(image[inner], widths, constant_values=float(np.percentile(image, 1))),
        np.pad(head.target[inner], widths),
    )


def draw_batch(
    cases: list[Case], size: int, patch: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return random patches (sample, 1, ...) and targets (sample, ...), half of them with left and right exchanged."""
    images, targets = [], []
    for _ in range(size):
        case = cases[rng.integers(len(cases))]
        starts = [int(rng.integers(0, max(length - patch, 0) + 1)) for length in case.image.shape]
        window = tuple(slice(start, start + patch) for start in starts)
        side = slice(None, None, -1 if rng.random() < 0.5 else 1)
        widths = [(0, max(patch - length, 0)) for length in case.image.shape]
        images.append(np.pad(case.image[window], widths, mode="edge")[None, :, :, side])
        targets.append(np.pad(case.target[window], widths)[:, :, side])
    return np.stack(images), np.stack(targets).astype(np.int64)

"""Small volumes of known contents: a textured ellipsoid in air, with an altered cap."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pretraining.dataset import ArrayVolume

SHAPE = (44, 52, 48)  # slice, row, column


def ellipsoid(shape: tuple[int, int, int] = SHAPE, radius: float = 0.42) -> NDArray[np.bool_]:
    axes = [(np.arange(side) - (side - 1) / 2) / (side * radius) for side in shape]
    squares = [part**2 for part in np.meshgrid(*axes, indexing="ij")]
    return sum(squares) <= 1


def cap(body: NDArray[np.bool_], planes: int = 10) -> NDArray[np.bool_]:
    """The first rows that hold body, as a defacing tool cuts a face."""
    altered = np.zeros_like(body)
    first = int(np.flatnonzero(body.any((0, 2)))[0])
    altered[:, first : first + planes] = body[:, first : first + planes]
    return altered


def texture(body: NDArray[np.bool_], seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=body.shape)
    values = 100 + 40 * ndimage.gaussian_filter(noise, 2) / 0.09 + 5 * noise
    return np.where(body, values, np.random.default_rng(seed + 1).normal(2, 1, body.shape)).astype(np.float32)


def array_volume(seed: int = 0, *, is_altered: bool = True, shape: tuple[int, int, int] = SHAPE) -> ArrayVolume:
    body = ellipsoid(shape)
    altered = cap(body) if is_altered else np.zeros_like(body)
    image = texture(body, seed)
    image[altered] = 0
    values = image[body & ~altered]
    image = (image - values.mean()) / values.std()
    return ArrayVolume(f"v{seed}", image, body, altered, float(np.median(image[~body])))


def write_volume(
    dataset: Path,
    name: str,
    image: NDArray[np.float32],
    body: NDArray[np.bool_],
    altered: NDArray[np.bool_],
    *,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
) -> Path:
    """As ``dicom-node dataset`` writes it, without the record; axes go to head, back and left."""
    folder = dataset / "volumes" / name
    folder.mkdir(parents=True)
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    for file, array in (
        ("image.nii.gz", image),
        ("altered.nii.gz", altered.astype(np.uint8)),
        ("background.nii.gz", (~body).astype(np.uint8)),
    ):
        nib.save(nib.Nifti1Image(array.T, affine), folder / file)
    return folder


def write_dataset(
    dataset: Path, n_volumes: int = 2, *, spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0)
) -> Path:
    for seed in range(n_volumes):
        body = ellipsoid()
        altered = cap(body) if seed % 2 else np.zeros_like(body)
        image = texture(body, seed)
        image[altered] = 0
        write_volume(dataset, f"v{seed}", image, body, altered, spacing_mm=spacing_mm)
    return dataset

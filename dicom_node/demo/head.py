"""A synthetic T1-weighted head, rendered from a tissue map, and the same with its face cut away."""

from __future__ import annotations

from importlib.resources import as_file, files

import highdicom as hd
import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Signal of each tissue of assets/README.md relative to white matter; a gradient echo at 3 T, estimated by eye.
T1_SIGNAL = np.array([0.0, 1.0, 0.68, 0.8, 0.25, 0.55, 0.8, 0.08, 0.85, 0.5, 0.3, 0.75], dtype=np.float32)
SIGNAL_SPREAD = 0.05  # standard deviation within a tissue
MUSCLE_AND_FAT = 5
FAT_SIGNAL = 1.25
FAT_DEPTH_MM = 8.0  # below the skin most of the soft tissue is fat
BRAIN_TISSUES = (1, 2, 3)
WHITE_MATTER_VALUE = 600.0  # stored value
NOISE = 0.02  # standard deviation of each quadrature channel, relative to white matter
CUT_MARGIN_MM = 8.0  # from the brain to the plane that cuts the face off
CUT_NORMAL = np.array([0.0, -0.9, -0.43])  # to the front and a little down, in LPS
AIR_MARGIN_VOXELS = 10


def render_head(*, seed: int, size: float = 1.0, is_mirrored: bool = False) -> hd.Volume:
    """Return a T1-weighted head in (left, posterior, head) array order, with values as a scanner stores them.

    Parameters
    ----------
    seed
        Seed of noise, shading and texture; the same seed produces the same voxels.
    size
        Factor on the voxel spacing of 1.5 mm.
    is_mirrored
        Exchange left and right, for another person.
    """
    tissues, affine = _load_tissues()
    rng = np.random.default_rng(seed)
    if is_mirrored:
        tissues = tissues[::-1]
    spread = SIGNAL_SPREAD * _smooth_noise(rng, tissues.shape, sigma_voxels=1.2)
    signal = T1_SIGNAL[tissues] * (1.0 + spread)
    soft = tissues == MUSCLE_AND_FAT
    signal[soft] += (_fat_fraction(tissues, rng) * (FAT_SIGNAL - T1_SIGNAL[MUSCLE_AND_FAT]))[soft]
    signal = ndimage.gaussian_filter(signal, 0.55) * _shading(rng, tissues.shape)
    real, imaginary = (NOISE * rng.standard_normal(tissues.shape, dtype=np.float32) for _ in range(2))
    voxels = np.rint(np.hypot(signal + real, imaginary) * WHITE_MATTER_VALUE)
    affine = affine.copy()
    affine[:3] *= size
    return hd.Volume(voxels, affine, coordinate_system="PATIENT")


def cut_face(head: hd.Volume) -> hd.Volume:
    """Return the head of `render_head` with everything in front of a plane before the brain set to zero."""
    tissues, affine = _load_tissues()
    scaled = head.affine[0, 0] / affine[0, 0]
    forward_mm = _along(CUT_NORMAL, affine, tissues.shape)
    brain_front_mm = np.percentile(forward_mm[np.isin(tissues, BRAIN_TISSUES)], 99.9)
    voxels = head.array.copy()
    voxels[forward_mm > brain_front_mm + CUT_MARGIN_MM / scaled] = 0.0
    return head.with_array(voxels)


def brain_mask(*, is_mirrored: bool = False) -> NDArray[np.uint8]:
    """Return 1 where a head of `render_head` has white or grey matter, else 0, in its array order."""
    tissues, _ = _load_tissues()
    if is_mirrored:
        tissues = tissues[::-1]
    return np.isin(tissues, BRAIN_TISSUES).astype(np.uint8)


def _load_tissues() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the tissue map in (left, posterior, head) order with air around it, and its affine to LPS mm."""
    with as_file(files("dicom_node.demo") / "assets" / "head_tissues.nii.gz") as path:
        image = nibabel.Nifti1Image.from_filename(path)
        tissues = np.asarray(image.dataobj, dtype=np.uint8)[::-1, ::-1]  # the file is RAS
    margin = AIR_MARGIN_VOXELS
    # The neck extends beyond the lower end of the field of view, so there is no air there.
    tissues = np.pad(tissues, ((margin, margin), (margin, margin), (0, margin)))
    spacing_mm = float(np.linalg.norm(image.affine[:3, 0]))
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = -spacing_mm * np.array(tissues.shape) / 2.0
    return tissues, affine


def _fat_fraction(tissues: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the share of fat in soft tissue: high below the skin, in islands deeper."""
    depth_mm = 1.5 * ndimage.distance_transform_edt(tissues > 0)
    islands = 1.5 * _smooth_noise(rng, tissues.shape, sigma_voxels=3.0)
    return np.asarray(1.0 / (1.0 + np.exp((depth_mm - FAT_DEPTH_MM) / 1.5 - islands)), dtype=np.float32)


def _shading(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a smooth factor around 1, like the sensitivity of receive coils."""
    coarse = rng.normal(0.0, 0.12, (3, 3, 3))
    factor = ndimage.zoom(coarse, np.array(shape) / 3.0, order=2, mode="nearest", grid_mode=True)
    return np.asarray(np.exp(factor), dtype=np.float32)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], *, sigma_voxels: float) -> NDArray[np.float32]:
    """Return a Gaussian field of mean 0 and standard deviation 1."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma_voxels)
    return np.asarray(field / field.std(), dtype=np.float32)


def _along(normal: NDArray[np.float64], affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the position of every voxel along a direction, in mm."""
    steps = normal @ affine[:3, :3] / np.linalg.norm(normal)
    axes = [np.arange(size) * step for size, step in zip(shape, steps, strict=True)]
    return np.asarray(axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :])

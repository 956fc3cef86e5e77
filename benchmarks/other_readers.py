"""Read a folder of DICOM with other programs, as volumes with affines to LPS mm, to compare them with ours."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TIMEOUT_S = 120
PLANAR, VOLUME, SERIES = 2, 3, 4  # dimensions of a NIfTI


@dataclass(frozen=True, slots=True, eq=False)
class OtherVolume:
    """A volume written by another program.

    Attributes
    ----------
    voxels
        In the axis order of the program.
    affine
        (4, 4) map from index in ``voxels`` to LPS mm; its axes need not be orthogonal.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    name: str = ""


def read_with_itk(folder: Path) -> tuple[OtherVolume, ...]:
    """Read with SimpleITK's ``ImageSeriesReader``, which uses GDCM."""
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.itk_volumes", str(folder), out],
            capture_output=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        return tuple(_itk_volume(sitk.ReadImage(str(path))) for path in sorted(Path(out).glob("*.mha")))


def read_with_dcm2niix(folder: Path) -> tuple[OtherVolume, ...]:
    """Read with ``dcm2niix`` and its defaults, except that Philips' private scaling is switched off.

    It writes tilted stacks twice: unchanged but without their tilt, and corrected (``_Tilt``).
    """
    with tempfile.TemporaryDirectory() as out:
        try:
            subprocess.run(
                ["dcm2niix", "-z", "n", "-b", "n", "-p", "n", "-f", "%s_%j", "-o", out, str(folder)],
                capture_output=True, timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ()
        return tuple(volume for path in sorted(Path(out).glob("*.nii")) for volume in _nifti_volumes(path))


def _itk_volume(image: sitk.Image) -> OtherVolume:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return OtherVolume(sitk.GetArrayFromImage(image).transpose(2, 1, 0).astype(np.float32), affine)


def _nifti_volumes(path: Path) -> Iterator[OtherVolume]:
    image: Any = nib.load(path)
    if image.header.get_data_dtype().fields is not None:  # colours
        return
    try:
        voxels = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except (ValueError, OSError):  # from hostile input, dcm2niix writes unreadable files
        return
    affine = LPS_FROM_RAS @ image.affine
    if voxels.ndim == PLANAR:
        voxels = voxels[..., np.newaxis]
    if voxels.ndim == VOLUME:
        yield OtherVolume(voxels, affine, path.stem)
    elif voxels.ndim == SERIES:
        for index in range(voxels.shape[3]):
            yield OtherVolume(voxels[..., index], affine, f"{path.stem} volume {index + 1}")


def versions() -> str:
    """Return names and versions of the other programs."""
    told = subprocess.run(["dcm2niix", "--version"], capture_output=True, text=True, check=False).stdout
    return f"SimpleITK {version('SimpleITK')} and dcm2niix {told.split()[-1]}"

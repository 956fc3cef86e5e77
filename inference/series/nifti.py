"""NIfTI in and out: the one place where axes are (x, y, z) and affines point right, anterior, superior."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from inference.series.errors import (
    NiftiAffineError,
    NiftiDataTypeError,
    NiftiDimensionsError,
    NiftiTooLargeError,
    NiftiUnreadableError,
)
from inference.series.limits import MAX_VOXELS
from inference.series.missing import fill_missing, missing_remarks
from inference.series.volume import Remark, SourceVolume

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse
MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
MAX_SHEAR_VOXELS = 0.25  # how far straightening the axes may move the farthest voxel
REMARKED_SHEAR_VOXELS = 0.01
SCANNER_ANATOMICAL = 1  # NIFTI_XFORM_SCANNER_ANAT


def read_nifti(path: Path) -> SourceVolume:
    """Read one scalar volume from ``.nii``, ``.nii.gz`` or ``.nii.bz2``.

    Returns
    -------
    SourceVolume
        Array (slice, row, column) = NIfTI's (k, j, i); voxels that hold no number become air, with a remark.

    Raises
    ------
    NiftiError
        A leaf: unreadable, not three-dimensional, not scalar, too large, or no usable affine.
    """
    name = str(path)
    image = _load(path)
    _check_shape(image, name)
    affine, remarks = _straight_lps_affine(image, name)
    try:
        data = image.get_fdata(dtype=np.float32, caching="unchanged")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise NiftiUnreadableError(name, "voxels cannot be read; the file may be cut short, copy it again") from error
    voxels = np.ascontiguousarray(data.reshape(data.shape[:3]).transpose(2, 1, 0))
    missing = fill_missing(voxels)
    remarks = (*remarks, *missing_remarks(missing))
    volume = hd.Volume(voxels, affine, coordinate_system="PATIENT")
    return SourceVolume(volume, (), (), "", None, remarks=remarks, missing=missing)


def write_nifti_mask(path: Path, mask: NDArray[np.bool_], geometry: hd.VolumeGeometry, template: Path | None) -> None:
    """Write a mask as uint8, 0 and 1; the same mask gives the same bytes.

    Parameters
    ----------
    path
        Ends in ``.nii`` or ``.nii.gz``; replaced as a whole or not at all.
    mask
        (slice, row, column) on ``geometry``.
    template
        The NIfTI file that the volume was read from: shape, affines and their codes are taken over bit by bit.
        None for DICOM sources, where the affine comes from ``geometry``.
    """
    if mask.shape != geometry.spatial_shape:
        raise ValueError(f"mask of shape {mask.shape} on a grid of shape {geometry.spatial_shape}")
    data = mask.transpose(2, 1, 0).astype(np.uint8)
    image = _like(template, data) if template is not None else _in_scanner_space(data, geometry)
    encoded = image.to_bytes()
    if path.name.endswith(".gz"):
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=buffer, mtime=0) as packer:
            packer.write(encoded)
        encoded = buffer.getvalue()
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(encoded)
    part.replace(path)


def lps_affine_from_ras(ras_affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Affine of (i, j, k) → RAS to affine of (slice, row, column) = (k, j, i) → LPS."""
    lps = RAS_FROM_LPS @ ras_affine
    return lps[:, [2, 1, 0, 3]]


def ras_affine_from_lps(lps_affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of ``lps_affine_from_ras``."""
    return RAS_FROM_LPS @ lps_affine[:, [2, 1, 0, 3]]


def _load(path: Path) -> Any:  # noqa: ANN401
    """Load the header."""
    try:
        image = nib.load(path)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, OSError, EOFError, ValueError,
            KeyError, TypeError, zlib.error) as error:  # fmt: skip
        raise NiftiUnreadableError(str(path), "not a NIfTI file that can be read; copy or export it again") from error
    if not isinstance(image, nib.Nifti1Image):  # Nifti2Image is one too
        raise NiftiUnreadableError(str(path), f"{type(image).__name__}, expected NIfTI-1 or NIfTI-2; convert it")
    return image


def _check_shape(image: Any, name: str) -> None:  # noqa: ANN401
    """Three dimensions, or more of which the others are 1; scalars; not too many."""
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise NiftiDimensionsError(name, f"shape {shape}, expected one volume with three axes; extract one volume")
    if min(shape) < 1:
        raise NiftiDimensionsError(name, f"shape {shape}, expected at least one voxel along each axis")
    if np.prod(shape, dtype=np.float64) > MAX_VOXELS:
        raise NiftiTooLargeError(name, f"shape {shape}, expected at most {MAX_VOXELS} voxels; crop it")
    data_type = image.get_data_dtype()
    if data_type.kind not in "iuf":
        raise NiftiDataTypeError(name, f"voxels of type {data_type}, expected scalars; convert it")


def _straight_lps_affine(image: Any, name: str) -> tuple[NDArray[np.float64], tuple[Remark, ...]]:  # noqa: ANN401
    """Affine to LPS mm with axes at right angles, as ``hd.Volume`` wants them."""
    remarks: list[Remark] = []
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= _mm_per_unit(image.header)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.all(np.isfinite(affine)) or not np.all(spacing_mm > 0):
        raise NiftiAffineError(name, f"affine with spacing {spacing_mm} mm, expected positive numbers; export it again")
    left, singular_values, right = np.linalg.svd(affine[:3, :3] / spacing_mm)
    if singular_values[-1] < 1e-3:
        raise NiftiAffineError(name, "affine with two axes in one direction; export it again")
    straight = affine.copy()
    straight[:3, :3] = (left @ right) * spacing_mm  # the nearest right-angled axes (polar decomposition)
    corners = np.array(image.shape[:3]) * np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
    moved = np.abs(corners @ (straight - affine)[:3, :3].T).max() / spacing_mm.min()
    if moved > MAX_SHEAR_VOXELS:
        raise NiftiAffineError(name, f"sheared affine: axes are off a right angle by {moved:.2f} voxels; resample it")
    if moved > REMARKED_SHEAR_VOXELS:
        remarks.append(Remark("affine-straightened", f"axes were off a right angle by {moved:.3f} voxels"))
    if int(image.header["sform_code"]) == 0 and int(image.header["qform_code"]) == 0:
        remarks.append(Remark("orientation-unknown", "neither sform nor qform is set; left and right may be swapped"))
    return lps_affine_from_ras(straight), tuple(remarks)


def _mm_per_unit(header: Any) -> float:  # noqa: ANN401
    """Millimetres in the header's unit of length; an unknown code is read as millimetres, as all programs do."""
    try:
        return MM_PER_UNIT[header.get_xyzt_units()[0]]
    except KeyError:
        return 1.0


def _like(template: Path, data: NDArray[np.uint8]) -> Any:  # noqa: ANN401
    """An image with the template's shape and transforms, without its extensions, texts and scaling."""
    source = _load(template)
    header = source.header.copy()
    header.extensions.clear()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    for field in ("descrip", "aux_file", "cal_max", "cal_min"):
        header[field] = np.zeros_like(header[field])
    return type(source)(data.reshape(source.shape), None, header)


def _in_scanner_space(data: NDArray[np.uint8], geometry: hd.VolumeGeometry) -> Any:  # noqa: ANN401
    new_image: Any = nib.Nifti1Image  # nibabel has no types
    image = new_image(data, ras_affine_from_lps(geometry.affine))
    image.set_sform(image.affine, SCANNER_ANATOMICAL)
    image.set_qform(image.affine, SCANNER_ANATOMICAL)
    image.header.set_xyzt_units("mm")
    return image

"""NIfTI files with any header, written field by field: nibabel would put most faults right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (20, 24, 28)  # x, y, z
OFFSET = (-10.0, -20.0, -30.0)


def voxels(shape: tuple[int, ...] = SHAPE, data_type: str = "<i2") -> np.ndarray:
    """Numbers that tell every axis apart."""
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(data_type)


def sform(sizes: tuple[float, float, float] = (2.0, 3.0, 4.0), shear: float = 0.0) -> np.ndarray:
    """Rows of an affine along the axes, with ``shear`` of the second axis along the first."""
    affine = np.diag([*sizes, 1.0])
    affine[0, 1] = shear
    affine[:3, 3] = OFFSET
    return affine[:3]


def header_bytes(array: np.ndarray, *, version: int = 1, rows: np.ndarray | None = None, **fields: Any) -> bytes:
    """A header; without fields, sizes 2, 3 and 4 mm in pixdim, qform and sform, codes 1.

    Parameters
    ----------
    rows
        The sform.
    fields
        Any field of the standard by its name, given bit by bit.
    """
    order = ">" if array.dtype.byteorder == ">" else "<"
    module = nib.nifti1 if version == 1 else nib.nifti2
    record = np.zeros((), module.header_dtype.newbyteorder(order))
    record["sizeof_hdr"] = record.dtype.itemsize
    record["dim"] = [array.ndim, *array.shape, *([1] * (7 - array.ndim))]
    record["datatype"] = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024,
                          "u8": 1280}[array.dtype.str[1:]]  # fmt: skip
    record["bitpix"] = 8 * array.dtype.itemsize
    record["pixdim"] = [1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0]
    record["scl_slope"] = 1.0
    record["xyzt_units"] = 2
    record["qform_code"] = record["sform_code"] = 1
    record["qoffset_x"], record["qoffset_y"], record["qoffset_z"] = OFFSET
    for name, row in zip(("srow_x", "srow_y", "srow_z"), sform() if rows is None else rows, strict=True):
        record[name] = row
    record["magic"] = b"n+1" if version == 1 else b"n+2"
    if version == 2:
        record["eol_check"] = list(b"\r\n\x1a\n")
    record["vox_offset"] = record.dtype.itemsize + 4
    for name, value in fields.items():
        record[name] = value
    return record.tobytes()


def nifti_bytes(array: np.ndarray | None = None, *, extension: bytes = bytes(4), **options: Any) -> bytes:
    """A whole single file: header, extender and extensions, voxels."""
    array = voxels() if array is None else array
    return header_bytes(array, **options) + extension + array.tobytes(order="F")


def write_nifti(path: Path, array: np.ndarray | None = None, **options: Any) -> Path:
    """Write `nifti_bytes`."""
    path.write_bytes(nifti_bytes(array, **options))
    return path

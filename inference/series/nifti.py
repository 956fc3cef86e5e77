"""Read NIfTI. Only in the modules of this name are axes (x, y, z) and affines point right, anterior, superior."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from inference.series.errors import NiftiUnreadableError
from inference.series.formats import HEAD_BYTES, foreign_file, is_nifti, pair_header, pair_voxels
from inference.series.missing import fill_missing, missing_remarks
from inference.series.nifti_header import NiftiHeader, parse_header
from inference.series.nifti_space import ras_affine
from inference.series.nifti_voxels import read_voxels
from inference.series.unpacking import UNPACKING_ERRORS, unpacked
from inference.series.volume import SourceVolume

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse


def read_nifti(path: Path) -> SourceVolume:
    """Read one scalar volume from a NIfTI file, or a pair of header and voxels, by its content.

    Plain, gzip and bzip2 are read, whatever the name says. Of several volumes (time points) the first is read, with a
    remark.

    Returns
    -------
    SourceVolume
        Array (slice, row, column) = NIfTI's (k, j, i); voxels that hold no number become air, with a remark.

    Raises
    ------
    NiftiError
        A leaf: unreadable, not three-dimensional, not scalar, too large, no usable affine, or contradicting units.
    TooFewSlicesError
        An axis has one or two voxels.
    """
    header = read_header(path)
    affine, space_remarks = ras_affine(header)
    voxels, voxel_remarks = read_voxels(_voxels_path(header), header)
    missing = fill_missing(voxels)
    remarks = (
        *space_remarks,
        *voxel_remarks,
        *missing_remarks(0 if missing is None else int(np.count_nonzero(missing))),
    )
    volume = hd.Volume(voxels, lps_affine_from_ras(affine), coordinate_system="PATIENT")
    return SourceVolume(volume, (), (), "", None, remarks=remarks, missing=missing)


def read_header(path: Path) -> NiftiHeader:
    """Read and check the header of a NIfTI file; of a pair, either file may be given.

    Raises
    ------
    NiftiError
        A leaf that names the field, the format or the compression.
    """
    path = pair_header(path) or path
    try:
        with unpacked(path) as opened:
            head, layers = opened.stream.read(HEAD_BYTES), opened.layers
    except EOFError as error:
        raise NiftiUnreadableError(str(path), "cut short: its compressed data end too early; copy it again") from error
    except OSError as error:
        problem = error.strerror or "damaged: its compressed data cannot be unpacked; copy it again"
        raise NiftiUnreadableError(str(path), problem) from error
    except UNPACKING_ERRORS as error:
        problem = "damaged: its compressed data cannot be unpacked; copy it again"
        raise NiftiUnreadableError(str(path), problem) from error
    if not head:
        raise NiftiUnreadableError(str(path), "empty, expected a NIfTI file; copy it again")
    if not is_nifti(head) and (foreign := foreign_file(path, head, layers)) is not None:
        raise NiftiUnreadableError(str(path), foreign.reason.removeprefix(f"{path}: "))
    return parse_header(head, str(path))


def lps_affine_from_ras(ras_affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Affine of (i, j, k) → RAS to affine of (slice, row, column) = (k, j, i) → LPS."""
    lps = RAS_FROM_LPS @ ras_affine
    return lps[:, [2, 1, 0, 3]]


def ras_affine_from_lps(lps_affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of ``lps_affine_from_ras``."""
    return RAS_FROM_LPS @ lps_affine[:, [2, 1, 0, 3]]


def _voxels_path(header: NiftiHeader) -> Path:
    """The file with the voxels."""
    path = Path(header.name)
    if not header.is_pair:
        return path
    voxels = pair_voxels(path)
    if voxels is None:
        problem = f"a header whose voxels lie in {path.with_suffix('.img').name}, which is not there; give both files"
        raise NiftiUnreadableError(header.name, problem)
    return voxels

"""Write masks and volumes as NIfTI, on the grid of their source."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from inference.series.nifti import ras_affine_from_lps, read_header
from inference.series.nifti_header import EXTENDER_BYTES, HEADER_BYTES

SCANNER_ANATOMICAL = 1  # NIFTI_XFORM_SCANNER_ANAT
UINT8 = 2  # DT_UINT8
SINGLE_FILE = {1: b"n+1", 2: b"n+2"}
# Texts may name a patient; the rest says what the source's values mean, or how they are shown.
CLEARED = (
    *("data_type", "db_name", "descrip", "aux_file", "intent_name", "intent_code", "intent_p1", "intent_p2"),
    *("intent_p3", "cal_max", "cal_min", "glmax", "glmin", "scl_inter", "extents", "session_error", "unused_str"),
)


def write_nifti_mask(path: Path, mask: NDArray[np.bool_], geometry: hd.VolumeGeometry, template: Path | None) -> None:
    """Write a mask as uint8, 0 and 1; the same mask gives the same bytes.

    Parameters
    ----------
    path
        Ends in ``.nii`` or ``.nii.gz``; replaced as a whole or not at all.
    mask
        (slice, row, column) on ``geometry``.
    template
        The NIfTI file that the volume was read from: sizes, transforms and their codes are taken over bit by bit, so
        that every program shows the mask where it shows the source, whatever it makes of the header. None for DICOM
        sources, where the affine comes from ``geometry``.
    """
    if mask.shape != geometry.spatial_shape:
        raise ValueError(f"mask of shape {mask.shape} on a grid of shape {geometry.spatial_shape}")
    voxels = np.ascontiguousarray(mask, np.uint8)
    _write(path, _like(template, voxels) if template is not None else _in_scanner_space(voxels, geometry))


def write_nifti_volume(path: Path, voxels: NDArray[Any], geometry: hd.VolumeGeometry) -> None:
    """Write voxels with their own data type, without texts, in scanner space; the same voxels give the same bytes.

    Parameters
    ----------
    path
        Ends in ``.nii`` or ``.nii.gz``; replaced as a whole or not at all.
    voxels
        (slice, row, column) on ``geometry``.
    """
    if voxels.shape != geometry.spatial_shape:
        raise ValueError(f"voxels of shape {voxels.shape} on a grid of shape {geometry.spatial_shape}")
    _write(path, _in_scanner_space(voxels, geometry))


def _write(path: Path, encoded: bytes) -> None:
    """Replace a file with the bytes, compressed if its name says so."""
    if path.name.endswith(".gz"):
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=buffer, mtime=0) as packer:
            packer.write(encoded)
        encoded = buffer.getvalue()
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(encoded)
    part.replace(path)


def _like(template: Path, voxels: NDArray[np.uint8]) -> bytes:
    """A single file with the template's header, without its extensions, texts and scaling."""
    source = read_header(template)
    fields = np.frombuffer(bytearray(source.fields.tobytes()), source.fields.dtype)[0]  # a copy to be written to
    begin = HEADER_BYTES[source.version] + EXTENDER_BYTES
    for field in CLEARED:
        if field in (fields.dtype.names or ()):
            fields[field] = np.zeros_like(fields[field])
    fields["sizeof_hdr"] = HEADER_BYTES[source.version]
    fields["magic"] = SINGLE_FILE[source.version]
    fields["datatype"], fields["bitpix"] = UINT8, 8
    fields["scl_slope"] = 1
    fields["vox_offset"] = begin
    if source.n_volumes > 1:
        fields["dim"][0] = 3
    fields["dim"][4:] = 1  # some writers leave 0 there
    header: bytes = fields.tobytes()
    return header + bytes(EXTENDER_BYTES) + voxels.tobytes()


def _in_scanner_space(voxels: NDArray[Any], geometry: hd.VolumeGeometry) -> bytes:
    new_image: Any = nib.Nifti1Image  # nibabel has no types
    image = new_image(voxels.transpose(2, 1, 0), ras_affine_from_lps(geometry.affine))
    image.set_sform(image.affine, SCANNER_ANATOMICAL)
    image.set_qform(image.affine, SCANNER_ANATOMICAL)
    image.header.set_xyzt_units("mm")
    encoded: bytes = image.to_bytes()
    return encoded

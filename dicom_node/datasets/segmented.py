"""What ``segment`` found in one volume: its ID, the digest of what decides its files, its masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from dicom_node.datasets.errors import VolumeRefused
from dicom_node.datasets.facts import Mask
from dicom_node.datasets.results import SegmentedVolume
from dicom_node.datasets.volumes import FORMAT, ID_DIGITS
from dicom_node.offline.names import mask_file
from inference.series.nifti import read_nifti
from inference.series.volume import SourceVolume

MAX_AFFINE_DIFFERENCE_MM: Final = 1e-2


def volume_id(result: SegmentedVolume) -> str:
    """Return the ID of a volume, made from the contents of its input alone."""
    told = f"{result.input_sha256}/{result.stack_number}"
    return f"v{hashlib.sha256(told.encode()).hexdigest()[:ID_DIGITS]}"


def volume_key(result: SegmentedVolume) -> str:
    """Return a digest of all that decides a volume's files.

    Raises
    ------
    VolumeRefused
        A mask is not there.
    """
    digest = hashlib.sha256(f"{FORMAT}/{result.input_sha256}/{result.stack_number}".encode())
    for role in ("foreground", "anonymized"):
        try:
            digest.update(hashlib.sha256((result.folder / mask_file(role)).read_bytes()).digest())
        except OSError as error:
            problem = error.strerror or type(error).__name__
            raise VolumeRefused(
                "mask-missing", f"{mask_file(role)} cannot be read ({problem}); segment it again"
            ) from error
    return digest.hexdigest()


def told_of(result: SegmentedVolume) -> Mapping[str, Any]:
    """Return what the record of a volume says of its result."""
    report = result.report
    return {
        "result": result.name,
        "stack_number": result.stack_number,
        "input_sha256": result.input_sha256,
        "pipeline_digest": report.get("pipeline_digest"),
        "verdict": report.get("verdict"),
    }


def read_mask(result: SegmentedVolume, role: str, source: SourceVolume) -> Mask:
    """Read a mask, and make sure that it lies on the grid of the image."""
    mask = read_nifti(result.folder / mask_file(role)).volume
    wanted = source.volume
    if mask.spatial_shape != wanted.spatial_shape:
        shapes = " and ".join(" x ".join(map(str, shape)) for shape in (mask.spatial_shape, wanted.spatial_shape))
        raise VolumeRefused("grid-differs", f"{mask_file(role)} and the image have {shapes} voxels; segment it again")
    # The farthest voxel tells the largest difference of two affines.
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*wanted.spatial_shape, 1]
    difference = np.abs(corners @ (mask.affine - wanted.affine).T).max()
    if difference > MAX_AFFINE_DIFFERENCE_MM * max(1.0, float(max(wanted.spacing))):
        raise VolumeRefused(
            "grid-differs", f"{mask_file(role)} lies up to {difference:.2f} mm away from the image; segment it again"
        )
    is_set: Mask = mask.array > 0
    return is_set

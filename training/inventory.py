"""Read the inventory of training volumes, and each volume as an array in network orientation.

Network orientation is (slice, row, column) with indices increasing towards head, posterior and left, as returned by
``SimpleITK.DICOMOrient(image, "LPS")``. Inference reorients volumes in the same way.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of ``volumes.csv``; all volumes of a person are in the same ``split``."""

    id: str
    path: Path
    split: str
    person: str
    modality: str
    contrast: str
    body_part: str
    face: str


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A volume in network orientation, before preprocessing.

    Attributes
    ----------
    voxels
        (slice, row, column) float32 raw values, indices increasing towards head, posterior, left.
    affine
        (4, 4) array index to LPS mm.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel size along (slice, row, column)."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))


def read_inventory(data: Path) -> list[Entry]:
    """Return the rows of ``data/volumes.csv`` whose volume exists."""
    with (data / "volumes.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    entries = [
        Entry(
            row["id"],
            data / row["file"],
            row["split"],
            row["person"],
            row["modality"],
            row["contrast"],
            row["body_part"],
            row["face"],
        )
        for row in rows
    ]
    return [entry for entry in entries if entry.path.is_file()]


def read_scan(path: Path) -> Scan:
    """Read a NIfTI file into network orientation; the first volume of a 4D file."""
    image: Any = nib.as_closest_canonical(nib.load(path))  # type: ignore[no-untyped-call]
    values = np.asarray(image.dataobj, dtype=np.float32)
    if values.ndim > 3:
        values = values.reshape(*values.shape[:3], -1)[..., 0]
    # Canonical is (Right, Anterior, Superior); flipped and transposed it is (Head, Posterior, Left).
    index_map = np.zeros((4, 4))
    index_map[0, 2], index_map[1, 1], index_map[2, 0], index_map[3, 3] = -1.0, -1.0, 1.0, 1.0
    index_map[0, 3], index_map[1, 3] = values.shape[0] - 1, values.shape[1] - 1
    affine = LPS_FROM_RAS @ np.asarray(image.affine, dtype=np.float64) @ index_map
    voxels = np.ascontiguousarray(values[::-1, ::-1].transpose(2, 1, 0))
    return Scan(voxels, affine)

"""Find the volumes of a dataset, and read one with its masks.

A dataset is what ``dicom-node dataset`` wrote, or any folder with NIfTI files, which have no masks.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from pretraining.errors import DatasetRefused, VolumeRefused

VOLUMES, IMAGE, ALTERED, BACKGROUND, RECORD = (
    *("volumes", "image.nii.gz", "altered.nii.gz"),
    *("background.nii.gz", "volume.json"),
)
_LPS = np.array([[0, -1], [1, -1], [2, 1]])  # NIfTI's own axes go right, front and head
_NIFTI = (".nii.gz", ".nii")
_REAL: Final = "biuf"  # kinds of numbers, as NumPy names them
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class SourceVolume:
    """A volume of a dataset: its name, and its files. Masks are None if the dataset has none."""

    id: str
    image: Path
    altered: Path | None = None
    background: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, the image first."""
        return tuple(path for path in (self.image, self.altered, self.background) if path is not None)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedVolume:
    """A volume in memory; axes are (slice, row, column), towards head, back and left.

    Attributes
    ----------
    body, altered
        None if the dataset has no masks.
    spacing_mm
        In the order of the axes.
    """

    voxels: NDArray[np.float32]
    body: NDArray[np.bool_] | None
    altered: NDArray[np.bool_] | None
    spacing_mm: tuple[float, float, float]


def find_volumes(dataset: Path, *, use_masks: bool) -> list[SourceVolume]:
    """Return the volumes of a dataset, sorted by name.

    Parameters
    ----------
    use_masks
        If not, masks are not looked for.

    Raises
    ------
    DatasetRefused
        The folder holds no volumes, or none with masks although they are asked for.
    """
    folders = [path.parent for path in sorted((dataset / VOLUMES).glob(f"*/{IMAGE}"))]
    if folders:
        wanted = _listed(dataset)
        used = [folder for folder in folders if wanted is None or folder.name in wanted]
        return [_of_dataset(folder, use_masks=use_masks) for folder in used]
    images = sorted(path for path in dataset.rglob("*") if path.name.endswith(_NIFTI) and path.is_file())
    if not images:
        raise DatasetRefused(str(dataset), "holds no volumes; name a folder that dicom-node dataset wrote")
    if use_masks:
        raise DatasetRefused(
            str(dataset),
            f"holds {len(images)} images but no masks; make a dataset of them with dicom-node segment and "
            "dicom-node dataset, or pretrain without masks: --no-masks",
        )
    stems = Counter(_stem(path.relative_to(dataset)) for path in images)  # a.nii may lie next to a.nii.gz
    return [SourceVolume(_plain_name(path.relative_to(dataset), stems), path) for path in images]


def read_volume(source: SourceVolume) -> LoadedVolume:
    """Read a volume.

    Raises
    ------
    VolumeRefused
        ``unreadable``, ``not-three-dimensional`` or ``shapes-differ``.
    """
    voxels, spacing_mm = _read(source.image)
    masks = [None if path is None else _read(path)[0] for path in (source.altered, source.background)]
    for mask, path in zip(masks, (source.altered, source.background), strict=True):
        if mask is not None and path is not None and mask.shape != voxels.shape:
            raise VolumeRefused(
                "shapes-differ", f"{path.name} has {_size(mask)} voxels, the image {_size(voxels)}; segment it again"
            )
    altered, background = masks
    return LoadedVolume(
        voxels.astype(np.float32),
        None if background is None else background < 0.5,
        None if altered is None else altered > 0.5,
        spacing_mm,
    )


def content_digest(source: SourceVolume) -> str:
    """Return a digest of image and masks: from the volume's record if it has one, else from the files."""
    recorded = _recorded_digests(source.image.with_name(RECORD))
    told = hashlib.sha256()
    for path in source.files:
        told.update((recorded.get(path.name) or file_digest(path)).encode())
    return told.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_dataset(folder: Path, *, use_masks: bool) -> SourceVolume:
    if not use_masks:
        return SourceVolume(folder.name, folder / IMAGE)
    missing = [name for name in (ALTERED, BACKGROUND) if not (folder / name).is_file()]
    if missing:
        raise DatasetRefused(
            str(folder), f"has no {' and no '.join(missing)}; make the dataset again, or use --no-masks"
        )
    return SourceVolume(folder.name, folder / IMAGE, folder / ALTERED, folder / BACKGROUND)


def _listed(dataset: Path) -> set[str] | None:
    """Return the IDs in the dataset's manifest; volumes of earlier runs may lie next to them."""
    try:
        manifest = json.loads((dataset / "manifest.json").read_bytes())
        return {str(one["id"]) for one in manifest["volumes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """Return voxels towards head, back and left, and their size."""
    try:
        image: Any = nib.load(path)
        if len(image.shape) != 3:
            sizes = " x ".join(map(str, image.shape))
            raise VolumeRefused("not-three-dimensional", f"{path.name} has {sizes} voxels; three axes are wanted")
        turns: Any = orientations
        turned = image.as_reoriented(turns.ornt_transform(turns.io_orientation(image.affine), _LPS))
        voxels = np.asarray(turned.dataobj).T
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise VolumeRefused("unreadable", f"{path.name} cannot be read as NIfTI ({type(error).__name__})") from error
    if voxels.dtype.kind not in _REAL:
        raise VolumeRefused("unreadable", f"{path.name} holds {voxels.dtype} values; one real number a voxel is wanted")
    zooms = [float(size) for size in turned.header.get_zooms()[:3]]
    return voxels, (zooms[2], zooms[1], zooms[0])


def _recorded_digests(record: Path) -> dict[str, str]:
    try:
        found = json.loads(record.read_bytes())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain_name(path: Path, stems: Mapping[str, int]) -> str:
    """Return a name for a volume's folder; a digest is added if the file's name is shortened or not unique.

    Parameters
    ----------
    stems
        How many volumes have each name without its ending.
    """
    stem = _stem(path)
    plain = _ODD.sub("-", stem)[:60]
    is_whole = plain == stem and stems[stem] == 1
    return plain if is_whole else f"{plain}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _stem(path: Path) -> str:
    return str(path).removesuffix(".gz").removesuffix(".nii")


def _size(array: NDArray[Any]) -> str:
    return " x ".join(map(str, array.shape))

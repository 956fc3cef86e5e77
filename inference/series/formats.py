"""Recognise a file by its first bytes: NIfTI, zip, or a format that is named in a message but not supported."""

from __future__ import annotations

import re
import shlex
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from inference.series.instances import looks_like_dicom
from inference.series.rejected import Rejected
from inference.series.unpacking import UNPACKING_ERRORS, unpacked
from inference.series.walk import ANNEX_COMMAND, not_fetched

HEAD_BYTES = 544  # the NIfTI-2 header has 540, a tar says what it is at 257
NIFTI_ENDINGS = (".nii", ".nii.gz", ".nii.bz2")
PAIR_ENDINGS: Mapping[str, str] = MappingProxyType({".img": ".hdr", ".img.gz": ".hdr.gz"})  # voxels, header
ANNEX_POINTER = b"/annex/objects/"  # what git-annex checks out for content that it has not fetched, unlocked
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
ANALYZE_HEADER_BYTES = 348  # sizeof_hdr; NIfTI-1 has the same


class FileKind(StrEnum):
    """How a file is read."""

    DICOM = "dicom"  # or nothing that is known: whoever reads it as DICOM says so
    NIFTI = "nifti"
    ZIP = "zip"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Recognised:
    """A file's kind; for foreign ones also why it is left out.

    ``path`` is the header's where the file holds the voxels of a pair.
    """

    path: Path
    kind: FileKind
    rejected: Rejected | None = None


@dataclass(frozen=True, slots=True)
class _Foreign:
    """A format that is recognised but not supported.

    ``way_out`` may hold ``{name}`` (the file), ``{unpacked}`` (the file without its last ending) and ``{nifti}`` (a
    NIfTI file next to it).
    """

    code: str
    what: str
    way_out: str


_ITK = "convert it to NIfTI, for example with 3D Slicer, or SimpleITK: WriteImage(ReadImage(...), '{nifti}')"
_NIBABEL = "convert it to NIfTI: nib-convert {name} {nifti}"
_MINC = "convert it to NIfTI, if it is an image: mnc2nii {name} {unpacked}.nii"
_ANALYZE = _Foreign(
    "other-format",
    "an Analyze 7.5 image, which does not record which side is left",
    "convert the original images to NIfTI, or, where the sides are sure: nib-convert {name} {nifti}",
)
_MGH = _Foreign("other-format", "a FreeSurfer image (MGH)", _NIBABEL)
_TAR = _Foreign("archive", "a tar archive", "unpack it and give the folder: tar -xf {name}")
_BY_MAGIC: tuple[tuple[bytes, _Foreign], ...] = (
    (
        b"\x28\xb5\x2f\xfd",
        _Foreign("compressed", "compressed with Zstandard", "unpack it: zstd -dc {name} > {unpacked}"),
    ),
    (b"\xfd7zXZ\x00", _Foreign("compressed", "compressed with xz", "unpack it: xz -dc {name} > {unpacked}")),
    (b"\x04\x22\x4d\x18", _Foreign("compressed", "compressed with LZ4", "unpack it: lz4 -dc {name} > {unpacked}")),
    (b"\x1f\x9d", _Foreign("compressed", "compressed with compress (.Z)", "unpack it: gzip -dc {name} > {unpacked}")),
    (b"7z\xbc\xaf\x27\x1c", _Foreign("archive", "a 7z archive", "unpack it and give the folder: 7z x {name}")),
    (b"Rar!\x1a\x07", _Foreign("archive", "a RAR archive", "unpack it and give the folder: unrar x {name}")),
    (b"NRRD", _Foreign("other-format", "an NRRD image", _ITK)),
    (b"\x89HDF\r\n\x1a\n", _Foreign("other-format", "an HDF5 file, perhaps MINC", _MINC)),
    (b"CDF\x01", _Foreign("other-format", "a netCDF file, perhaps MINC", _MINC)),
    (b"# === DATA DESCRIPTION FILE", _Foreign("other-format", "a Philips PAR/REC image", _NIBABEL)),
)
_METAIMAGE = re.compile(rb"\s*(ObjectType|NDims|Comment)\s*=")
_AFNI = re.compile(rb"\s*type\s*=\s*\w+-attribute")


def recognise(path: Path) -> Recognised:
    """Look at the first bytes of a file, unpacked where it is compressed with gzip or bzip2.

    A file that is called NIfTI and is nothing that is known is NIfTI here: its reader says what is wrong with it.
    """
    path = pair_header(path) or path
    called_nifti = path.name.lower().endswith(NIFTI_ENDINGS)
    otherwise = FileKind.NIFTI if called_nifti else FileKind.DICOM
    try:
        with unpacked(path) as opened:
            head, layers = opened.stream.read(HEAD_BYTES), opened.layers
    except UNPACKING_ERRORS:
        return Recognised(path, otherwise)
    if is_nifti(head):
        return Recognised(path, FileKind.NIFTI)
    if (rejected := foreign_file(path, head, layers)) is not None:
        return Recognised(path, FileKind.FOREIGN, rejected)
    if not layers and looks_like_dicom(head):
        return Recognised(path, FileKind.DICOM)
    if not layers and head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return Recognised(path, FileKind.ZIP)
    return Recognised(path, otherwise)


def pair_header(path: Path) -> Path | None:
    """Return the ``.hdr`` file that belongs to an ``.img`` file, if it exists."""
    return _partner(path, PAIR_ENDINGS)


def pair_voxels(path: Path) -> Path | None:
    """Return the ``.img`` file that belongs to a ``.hdr`` file, if it exists."""
    return _partner(path, {header: voxels for voxels, header in PAIR_ENDINGS.items()})


def nifti_files(path: Path) -> tuple[Path, ...]:
    """The file, or both files of a pair, the header first."""
    voxels = pair_voxels(path)
    return (path,) if voxels is None else (path, voxels)


def _partner(path: Path, endings: Mapping[str, str]) -> Path | None:
    """The other file of a pair; either may be compressed alone, and endings may be in capitals."""
    for ending in endings:
        if path.name.lower().endswith(ending):
            stem = path.name[: -len(ending)]
            names = [stem + other for other in (endings[ending], *endings.values())]
            for name in (*names, *(stem + other.upper() for other in endings.values())):
                if (partner := path.with_name(name)).is_file():
                    return partner
    return None


def is_nifti(head: bytes) -> bool:
    """Whether a file begins with a NIfTI header: ``n+1`` or ``ni1`` at 344, ``n+2`` or ``ni2`` at 4."""
    return head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2")


def foreign_file(path: Path, head: bytes, layers: tuple[str, ...]) -> Rejected | None:
    """Return why a file that is neither NIfTI nor plain DICOM is left out, if its first bytes are recognised."""
    if head.startswith(ANNEX_POINTER):
        return not_fetched(path, ANNEX_COMMAND)
    if head.startswith(LFS_POINTER):
        return not_fetched(path, "git lfs pull --include {0}")
    if looks_like_dicom(head):
        if not layers:
            return None
        unpack = f"unpack it: {layers[0]} -dc {{name}} > {{unpacked}}"
        foreign: _Foreign | None = _Foreign("compressed", f"a DICOM object compressed with {layers[0]}", unpack)
    else:
        foreign = _foreign_format(path.name.lower(), head)
    if foreign is None:
        return None
    way_out = foreign.way_out.format(
        name=shlex.quote(str(path)),
        unpacked=shlex.quote(str(path.with_suffix("")) if path.suffix else f"{path}.unpacked"),
        nifti=shlex.quote(str(path.with_name(f"{path.name.split('.')[0] or 'image'}.nii.gz"))),
    )
    return Rejected(str(path), foreign.code, f"{path}: {foreign.what}; {way_out}")


def _foreign_format(name: str, head: bytes) -> _Foreign | None:
    for magic, foreign in _BY_MAGIC:
        if head.startswith(magic):
            return foreign
    if head[257:262] == b"ustar":
        return _TAR
    if name.endswith((".mgh", ".mgz", ".mgh.gz")) and head[:4] == b"\x00\x00\x00\x01":
        return _MGH
    if name.endswith((".mha", ".mhd")) and _METAIMAGE.match(head):
        return _Foreign("other-format", "a MetaImage", _ITK)
    if name.endswith(".head") and _AFNI.match(head):
        return _Foreign("other-format", "an AFNI image", _NIBABEL)
    if name.endswith(tuple(PAIR_ENDINGS)):
        return _Foreign(
            "other-format", "voxels without their header, the .hdr file of the same name", "give both files"
        )
    sizes = {struct.unpack(f"{order}i", head[:4])[0] for order in "<>"} if len(head) >= ANALYZE_HEADER_BYTES else set()
    if ANALYZE_HEADER_BYTES in sizes:
        return _ANALYZE
    return None

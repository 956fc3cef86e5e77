"""A NIfTI header as the file has it, field by field: versions 1 and 2, either byte order, one file or a pair.

nibabel repairs some fields without a word and refuses others without naming them; here the caller sees what is there.
Fields: https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields, nifti2.h for version 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import nibabel as nib
import numpy as np

from inference.series.errors import (
    NiftiDataTypeError,
    NiftiDimensionsError,
    NiftiTooFewSlicesError,
    NiftiTooLargeError,
    NiftiUnreadableError,
)
from inference.series.limits import MAX_VOXELS, MIN_SLICES
from inference.series.remarks import Remark, RemarkCode

MAGIC_AT: Mapping[int, int] = MappingProxyType({1: 344, 2: 4})  # by version
MAGICS: Mapping[bytes, tuple[int, bool]] = MappingProxyType(
    {b"n+1": (1, False), b"ni1": (1, True), b"n+2": (2, False), b"ni2": (2, True)}
)  # version, whether the voxels lie in a file of their own
TRANSFER_CHECK = b"\r\n\x1a\n"  # of version 2, at 8; text mode of FTP and mail changes it
HEADER_BYTES: Mapping[int, int] = MappingProxyType({1: 348, 2: 540})
EXTENDER_BYTES = 4  # after the header in a single file
MAX_DIMENSIONS = 7
TYPES: Mapping[int, str] = MappingProxyType(
    {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
)
OTHER_TYPES: Mapping[int, str] = MappingProxyType(
    {
        0: "unknown",
        1: "binary (one bit)",
        32: "complex64",
        128: "RGB24 (colour)",
        1536: "float128",
        1792: "complex128",
        2048: "complex256",
        2304: "RGBA32 (colour)",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class NiftiHeader:
    """One header and the file that it was read from.

    Attributes
    ----------
    fields
        The header's record in the file's byte order, names as in the standard.
    shape
        Voxels along i, j and k.
    n_volumes
        Of that shape, one after the other (the fourth axis, time).
    data_type
        Of the stored voxels, in the file's byte order.
    """

    name: str
    version: int
    is_pair: bool
    fields: np.void
    shape: tuple[int, int, int]
    n_volumes: int
    data_type: np.dtype[np.generic]

    def number(self, field: str) -> float:
        """Value of a field that holds one number."""
        return float(self.fields[field])

    def code(self, field: str) -> int:
        """Value of a field that holds one integer."""
        return int(self.fields[field])

    @property
    def int32(self) -> np.dtype[np.generic]:
        """A 32 bit integer in the file's byte order."""
        return np.dtype("i4").newbyteorder(self.fields.dtype["datatype"].byteorder)

    @property
    def told_shape(self) -> str:
        """Voxels along the axes, as messages say it."""
        return " x ".join(str(n) for n in (*self.shape, *([self.n_volumes] if self.n_volumes > 1 else [])))

    @property
    def told_type(self) -> str:
        """Type of the voxels, as messages say it."""
        return self.data_type.newbyteorder("=").name

    @property
    def n_volume_bytes(self) -> int:
        """Stored bytes of one volume."""
        return math.prod(self.shape) * self.data_type.itemsize

    @property
    def first_voxel_offset(self) -> int:
        """The lowest offset that voxels can have: after header and extender, or 0 in a file of their own."""
        return 0 if self.is_pair else HEADER_BYTES[self.version] + EXTENDER_BYTES


def parse_header(head: bytes, name: str) -> NiftiHeader:
    """Read the fields that describe the voxels, and refuse files that are not a scalar volume.

    Parameters
    ----------
    head
        The first bytes of the file, unpacked; 544 are enough.

    Raises
    ------
    NiftiError
        A leaf: not NIfTI, cut short, not three axes, too few slices, no scalars, too many voxels.
    """
    version, is_pair = _version(head, name)
    fields = _fields(head, version, name)
    data_type = _data_type(fields, name)
    shape, n_volumes = _shape(fields, name)
    return NiftiHeader(name, version, is_pair, fields, shape, n_volumes, data_type)


def scaling(header: NiftiHeader) -> tuple[float, float, tuple[Remark, ...]]:
    """Return slope and intercept from stored to measured values, and remarks on unusual ones.

    A slope of 0 means that stored values are measured values, whatever the intercept is; NaN means the same (nibabel
    writes it).

    Raises
    ------
    NiftiUnreadableError
        The slope is infinite, or an intercept that counts is no number.
    """
    slope, intercept = header.number("scl_slope"), header.number("scl_inter")
    if math.isinf(slope):
        raise NiftiUnreadableError(header.name, f"scl_slope is {slope}, expected a number; set it, 1 where unscaled")
    if math.isnan(slope) or slope == 0.0:
        if math.isfinite(intercept) and intercept != 0.0:
            text = f"scl_inter is {intercept:g} but scl_slope is {slope:g}: values are taken as they are stored"
            return 1.0, 0.0, (Remark(RemarkCode.INTERCEPT_NOT_USED, text),)
        return 1.0, 0.0, ()
    if not math.isfinite(intercept):
        problem = f"scl_inter is {intercept}, with scl_slope {slope:g}, expected a number; set it, 0 where unscaled"
        raise NiftiUnreadableError(header.name, problem)
    return slope, intercept, ()


def _version(head: bytes, name: str) -> tuple[int, bool]:
    for magic, (version, is_pair) in MAGICS.items():
        at = MAGIC_AT[version]
        if head[at : at + len(magic)] == magic:
            if version > 1 and head[8:12] != TRANSFER_CHECK:
                problem = "a NIfTI-2 file that was changed on its way, by a transfer in text mode; copy it as binary"
                raise NiftiUnreadableError(name, problem)
            return version, is_pair
    raise NiftiUnreadableError(name, "not a NIfTI file (no n+1 at byte 344 nor n+2 at byte 4); export it as NIfTI")


def _fields(head: bytes, version: int, name: str) -> np.void:
    """The header's record in the byte order in which it makes sense."""
    n_bytes = HEADER_BYTES[version]
    if len(head) < n_bytes:
        problem = f"{len(head)} bytes, less than a NIfTI-{version} header has ({n_bytes}); copy it again"
        raise NiftiUnreadableError(name, problem)
    record_type: np.dtype[np.void] = nib.nifti1.header_dtype if version == 1 else nib.nifti2.header_dtype
    orders = (record_type.newbyteorder("<"), record_type.newbyteorder(">"))
    records: list[np.void] = [np.frombuffer(head[:n_bytes], order)[0] for order in orders]
    for record in records:  # sizeof_hdr first: it is what writers get right
        if int(record["sizeof_hdr"]) == n_bytes:
            return record
    for record in records:
        if 1 <= int(record["dim"][0]) <= MAX_DIMENSIONS:
            return record
    sizes = " or ".join(str(int(record["sizeof_hdr"])) for record in records)
    raise NiftiUnreadableError(name, f"sizeof_hdr is {sizes}, expected {n_bytes}; copy or export it again")


def _data_type(fields: np.void, name: str) -> np.dtype[np.generic]:
    code = int(fields["datatype"])
    if code not in TYPES:
        found = OTHER_TYPES.get(code, "unknown")
        problem = f"voxels of type {found} (datatype {code}), expected integers or floats of 8 to 64 bits; convert it"
        raise NiftiDataTypeError(name, problem)
    order = fields.dtype["datatype"].byteorder  # "=" where it is the machine's
    return np.dtype(TYPES[code]).newbyteorder(order)


def _shape(fields: np.void, name: str) -> tuple[tuple[int, int, int], int]:
    """Voxels along the three axes, and the number of volumes."""
    dims = [int(n) for n in fields["dim"]]
    n_axes = dims[0]
    if not 1 <= n_axes <= MAX_DIMENSIONS:
        raise NiftiDimensionsError(name, f"dim[0] is {n_axes}, expected 3 axes; copy or export it again")
    sizes = dims[1 : n_axes + 1] + [1] * (MAX_DIMENSIONS - n_axes)
    sizes[3:] = [size or 1 for size in sizes[3:]]  # unused axes are sometimes 0
    told = " x ".join(str(size) for size in sizes[:n_axes])
    if min(sizes) < 1:
        axis = next(axis for axis, size in enumerate(sizes, start=1) if size < 1)
        problem = f"{told} voxels: dim[{axis}] is {sizes[axis - 1]}, expected at least 1; copy or export it again"
        raise NiftiDimensionsError(name, problem)
    if n_axes == 1:
        raise NiftiDimensionsError(name, f"{told} values along one axis, expected a volume with three; give a volume")
    if max(sizes[4:]) > 1:
        problem = f"{told} voxels, several values in each, expected one volume of scalars; extract one"
        raise NiftiDimensionsError(name, problem)
    x, y, z, n_volumes = sizes[:4]
    if min(x, y, z) < MIN_SLICES:
        raise NiftiTooFewSlicesError(name, min(x, y, z), MIN_SLICES)
    if x * y * z > MAX_VOXELS:
        raise NiftiTooLargeError(name, f"{told} voxels, expected at most {MAX_VOXELS} in a volume; crop it")
    return (x, y, z), n_volumes

"""The voxels of a NIfTI file: where they begin, and their measured values; bounded, whatever the file promises."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from inference.series.errors import NiftiUnreadableError
from inference.series.nifti_header import EXTENDER_BYTES, HEADER_BYTES, NiftiHeader, scaling
from inference.series.remarks import Remark, RemarkCode
from inference.series.unpacking import UNPACKING_ERRORS, unpacked

CHUNK_BYTES = 1 << 22  # a multiple of every voxel's size
EXTENSION_STEP = 16  # sizes of extensions are multiples of it
MAX_EXTENSIONS = 1000
MAX_LEFT_OVER_BYTES = 1 << 20  # looked at after the voxels, which also reaches the checksum of a compressed file


def read_voxels(path: Path, header: NiftiHeader) -> tuple[NDArray[np.float32], tuple[Remark, ...]]:
    """Read the first volume.

    Parameters
    ----------
    path
        The file with the voxels, compressed or not.

    Returns
    -------
    tuple
        (k, j, i) float32, slope and intercept applied; remarks.

    Raises
    ------
    NiftiUnreadableError
        The file ends too early, is damaged, or its ``vox_offset`` cannot be right.
    """
    slope, intercept, remarks = scaling(header)
    try:
        begins = [0] if header.is_pair else _possible_begins(path, header)
        offset = _declared_begin(header, begins)
        read = None if offset is None else _read_at(path, header, offset, slope, intercept)
        if read is None:
            offset = _fitting_begin(path, header, begins)
            text = f"vox_offset is {header.number('vox_offset'):g}; by the file's size the voxels begin at {offset}"
            remarks = (*remarks, Remark(RemarkCode.VOX_OFFSET_CORRECTED, text))
            read = _read_at(path, header, offset, slope, intercept)
    except EOFError as error:
        raise NiftiUnreadableError(
            header.name, "cut short: its compressed data end too early; copy it again"
        ) from error
    except UNPACKING_ERRORS as error:
        problem = "damaged: its compressed data cannot be unpacked, or do not fit their checksum; copy it again"
        raise NiftiUnreadableError(header.name, problem) from error
    if read is None:
        raise NiftiUnreadableError(header.name, "it changed while it was read; try again")
    voxels, n_left_over = read
    if header.n_volumes > 1:
        text = f"{header.n_volumes - 1} of {header.n_volumes} volumes (time points) are not looked at, only the first"
        remarks = (*remarks, Remark(RemarkCode.VOLUMES_NOT_RUN, text))
    elif n_left_over >= header.n_volume_bytes // header.shape[2]:
        text = f"more bytes follow the {header.told_shape} voxels than a slice has; they are not looked at"
        remarks = (*remarks, Remark(RemarkCode.VOXELS_LEFT_OVER, text))
    return voxels.reshape(header.shape[::-1]), remarks


def _possible_begins(path: Path, header: NiftiHeader) -> list[int]:
    """Where the voxels of a single file may begin: after the extender, and after each extension up to ``vox_offset``.

    An extension says how long it is; one that can't be so long ends the search.
    """
    begins = [header.first_voxel_offset]
    with unpacked(path) as opened:
        stream = opened.stream
        if not _skip(stream, HEADER_BYTES[header.version]) or stream.read(EXTENDER_BYTES)[:1] in (b"", b"\0"):
            return begins
        while len(begins) <= MAX_EXTENSIONS and not begins[-1] >= header.number("vox_offset") > begins[0]:
            size_bytes = stream.read(8)[:4]
            size = int(np.frombuffer(size_bytes, header.int32)[0]) if len(size_bytes) == 4 else 0
            if size < EXTENSION_STEP or size % EXTENSION_STEP or not _skip(stream, size - 8):
                break
            begins.append(begins[-1] + size)
    return begins


def _declared_begin(header: NiftiHeader, begins: list[int]) -> int | None:
    """``vox_offset`` where it can be right; 0 in a single file means that it was never set."""
    declared = header.number("vox_offset")
    if declared == 0 and len(begins) == 1:
        return begins[0]
    if not math.isfinite(declared) or declared != int(declared) or declared < begins[0]:
        return None
    is_after_extensions = declared >= begins[-1] and (declared > begins[0] or len(begins) == 1)
    return int(declared) if is_after_extensions else None


def _fitting_begin(path: Path, header: NiftiHeader, begins: list[int]) -> int:
    """Where the voxels must begin, so that they end with the file."""
    n_bytes = header.n_volume_bytes * header.n_volumes
    declared = header.number("vox_offset")
    candidates = begins[::-1]
    if math.isfinite(declared) and declared >= (0 if header.is_pair else HEADER_BYTES[header.version]):
        candidates.append(int(declared))
    size = _content_bytes(path, max(candidates) + n_bytes)
    for begin in candidates:
        if begin + n_bytes == size:
            return begin
    found = size if size <= max(candidates) + n_bytes else f"more than {size - 1}"
    problem = (
        f"vox_offset is {declared:g}, and {header.told_shape} voxels of type {header.told_type} have {n_bytes} bytes: "
        f"expected {begins[-1] + n_bytes} bytes with vox_offset {begins[-1]}, but {path.name} has {found}; it is cut "
        "short, or dim, datatype or vox_offset is wrong: copy or export it again"
    )
    raise NiftiUnreadableError(header.name, problem)


def _content_bytes(path: Path, limit: int) -> int:
    """Bytes in a file, unpacked; counting stops a little beyond ``limit``."""
    with unpacked(path) as opened:
        if not opened.layers:
            return path.stat().st_size
        n_bytes = 0
        while n_bytes <= limit and (chunk := opened.stream.read(CHUNK_BYTES)):
            n_bytes += len(chunk)
        return n_bytes


def _read_at(
    path: Path, header: NiftiHeader, offset: int, slope: float, intercept: float
) -> tuple[NDArray[np.float32], int] | None:
    """Measured values of the first volume, and how many bytes follow all volumes; None where the file is too short.

    Values are converted piece by piece, so that no second copy of the volume is ever held.
    """
    with unpacked(path) as opened:
        n_bytes = header.n_volume_bytes * header.n_volumes
        if not opened.layers and path.stat().st_size < offset + n_bytes:
            return None
        if not _skip(opened.stream, offset):
            return None
        voxels = np.empty(math.prod(header.shape), np.float32)
        done = 0
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 becomes infinite
            while done < len(voxels):
                wanted = min(CHUNK_BYTES, (len(voxels) - done) * header.data_type.itemsize)
                chunk = _read_whole(opened.stream, wanted)
                if len(chunk) < wanted:
                    return None
                stored = np.frombuffer(chunk, header.data_type)
                is_scaled = (slope, intercept) != (1.0, 0.0)
                voxels[done : done + len(stored)] = stored * np.float64(slope) + intercept if is_scaled else stored
                done += len(stored)
        if header.n_volumes > 1:
            return voxels, 0
        return voxels, len(_read_whole(opened.stream, MAX_LEFT_OVER_BYTES))


def _read_whole(stream: BinaryIO, n_bytes: int) -> bytes:
    """So many bytes, or all that are left; a compressed stream may return fewer at once."""
    parts: list[bytes] = []
    while n_bytes > 0 and (part := stream.read(n_bytes)):
        parts.append(part)
        n_bytes -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _skip(stream: BinaryIO, n_bytes: int) -> bool:
    """Read past so many bytes; false where the stream ends before."""
    while n_bytes > 0:
        part = stream.read(min(n_bytes, CHUNK_BYTES))
        if not part:
            return False
        n_bytes -= len(part)
    return True

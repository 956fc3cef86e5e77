"""Stored objects as datasets without their pixels; what a hostile one makes the parser raise is one error here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from dicom_node.dicomweb.errors import UnreadableObjectError
from dicom_node.store import InstanceRow, ObjectStore

PIXEL_DATA_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})

_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
# There is no common base of what pydicom raises on input that was made to hurt.
_PARSE_ERRORS: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class PixelDataPlace:
    """Where the pixel data element of a file begins; ``n_bytes`` is ``None`` for encapsulated frames."""

    tag: int
    vr: str
    offset: int
    n_bytes: int | None


@contextmanager
def parsing(sop_instance_uid: str) -> Iterator[None]:
    """Turn what the parser raises into `UnreadableObjectError`."""
    try:
        yield
    except _PARSE_ERRORS as error:
        raise UnreadableObjectError(
            sop_instance_uid, f"its dataset does not decode ({type(error).__name__})"
        ) from error


def read_without_pixels(objects: ObjectStore, row: InstanceRow) -> tuple[Dataset, PixelDataPlace | None]:
    """The dataset up to the pixel data, and where that is; deflated datasets have no place of their own in the file."""
    with objects.open(row.digest) as file, parsing(row.sop_instance_uid):
        ds = dcmread(file, stop_before_pixels=True)
        syntax = UID(row.transfer_syntax_uid)
        place = None if syntax.is_deflated else _pixel_data_place(file, syntax)
        return ds, place


def _pixel_data_place(file: BinaryIO, syntax: UID) -> PixelDataPlace | None:
    """Read the element header at which pydicom stopped."""
    head = file.read(12)
    endian = "<" if syntax.is_little_endian else ">"
    if len(head) < 8:
        return None
    group, element = struct.unpack(f"{endian}HH", head[:4])
    tag = group << 16 | element
    if tag not in PIXEL_DATA_TAGS:
        return None
    if syntax.is_implicit_VR:
        vr = {0x7FE00008: "OF", 0x7FE00009: "OD"}.get(tag, "OW")
        (length,) = struct.unpack(f"{endian}L", head[4:8])
        offset = file.tell() - len(head) + 8
    else:
        vr = head[4:6].decode("ascii", "replace")
        (length,) = struct.unpack(f"{endian}L", head[8:12])
        offset = file.tell()
    return PixelDataPlace(tag, vr, offset, None if length == _UNDEFINED_LENGTH else length)

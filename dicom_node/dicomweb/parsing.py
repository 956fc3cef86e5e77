"""Read headers of stored objects; whatever the parser raises on a hostile one becomes one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.dicomweb.errors import UnreadableObjectError
from dicom_node.store import InstanceRow, ObjectStore
from part10.damage import PYDICOM_ERRORS, is_about_the_disk
from part10.errors import Part10Error
from part10.inflate import bounded_for_pydicom
from part10.pixel_data import PixelDataLocation, read_pixel_data_location

# What takes more than this until its pixel data is no header; a deflated one is inflated only as far as it is read.
MAX_HEADER_BYTES: Final = 1 << 26
# A deflated instance that inflates to more is only sent as it is stored.
MAX_INFLATED_BYTES: Final = 1 << 29

HEAD_BYTES: Final = 1 << 16  # longer than most headers
_PIXEL_DATA: Final = (b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00", b"\x7f\xe0\x00\x10")


@contextmanager
def parsing(sop_instance_uid: str) -> Iterator[None]:
    """Raise `UnreadableObjectError` for any error of the parser."""
    try:
        yield
    except Part10Error as error:
        raise UnreadableObjectError(sop_instance_uid, str(error)) from error
    except PYDICOM_ERRORS as error:
        if is_about_the_disk(error):
            raise
        raise UnreadableObjectError(
            sop_instance_uid, f"its dataset does not decode ({type(error).__name__})"
        ) from error


def read_without_pixels(objects: ObjectStore, row: InstanceRow) -> tuple[Dataset, PixelDataLocation | None]:
    """Return the dataset up to the pixel data, and the location of the pixel data.

    There is no location if the instance is deflated or its transfer syntax is private.
    """
    syntax = UID(row.transfer_syntax_uid)
    has_place = syntax.is_transfer_syntax and not syntax.is_deflated
    with objects.open(row.digest, dataset_bytes=row.dataset_bytes) as file, parsing(row.sop_instance_uid):
        head = file.read(HEAD_BYTES)
        if has_place and (len(head) < HEAD_BYTES or any(tag in head for tag in _PIXEL_DATA)):
            buffer = BytesIO(head)  # pydicom reads eight bytes at a time, much faster from here than from a file
            try:
                ds = dcmread(bounded_for_pydicom(buffer, max_inflated_bytes=0), stop_before_pixels=True)
                place = _place(buffer, syntax)
            except PYDICOM_ERRORS:
                if len(head) < HEAD_BYTES:
                    raise
            else:
                if place is not None or len(head) < HEAD_BYTES:
                    return ds, place
        file.seek(0)
        bounded = bounded_for_pydicom(file, max_inflated_bytes=MAX_HEADER_BYTES, max_read_bytes=MAX_HEADER_BYTES)
        ds = dcmread(bounded, stop_before_pixels=True)
        return ds, _place(file, syntax) if has_place else None


def _place(file: BinaryIO, syntax: UID) -> PixelDataLocation | None:
    return read_pixel_data_location(
        file, is_implicit_vr=syntax.is_implicit_VR, is_little_endian=syntax.is_little_endian
    )

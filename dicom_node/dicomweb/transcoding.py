"""Explicit VR little endian for clients that take nothing else; it is the default of PS3.18 8.7.3.5."""

from __future__ import annotations

import math
from io import BytesIO
from typing import BinaryIO, Final

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.dicomweb.errors import NotAcceptableError, UnreadableObjectError
from dicom_node.dicomweb.parsing import parsing
from dicom_node.store import InstanceRow
from part10.inflate import bounded_for_pydicom

# Decoded pixels of one instance are held in memory; what is larger is only sent as it is stored.
MAX_DECODED_BYTES: Final = 1 << 29


def to_explicit_little_endian(file: BinaryIO, row: InstanceRow) -> bytes:
    """Part 10 bytes of an instance with its pixels decompressed; closes ``file``.

    Raises
    ------
    NotAcceptableError
        The instance is too large, cannot be decoded, or is big endian (its pixels would need swapping).
    """
    stored = f"transfer-syntax={row.transfer_syntax_uid} (or transfer-syntax=*)"
    syntax = UID(row.transfer_syntax_uid)
    with file:
        if not syntax.is_little_endian:
            raise NotAcceptableError(f"instance {row.sop_instance_uid}", stored)
        try:
            with parsing(row.sop_instance_uid):
                return _transcoded(file, is_encapsulated=syntax.is_encapsulated)
        except (UnreadableObjectError, MemoryError) as error:
            raise NotAcceptableError(f"instance {row.sop_instance_uid}", stored) from error


def _transcoded(file: BinaryIO, *, is_encapsulated: bool) -> bytes:
    ds = dcmread(bounded_for_pydicom(file, max_inflated_bytes=MAX_DECODED_BYTES))
    if is_encapsulated and "PixelData" in ds:
        if _decoded_bytes(ds) > MAX_DECODED_BYTES:
            raise ValueError("larger than MAX_DECODED_BYTES")
        ds.decompress(generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, ds, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def _decoded_bytes(ds: Dataset) -> int:
    keywords = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated")
    return math.prod(int(ds.get(keyword) or 1) for keyword in keywords) // 8

"""Convert instances to explicit VR little endian, the default transfer syntax of PS3.18 8.7.3.5, or compress them.

The header is written anew. Pixels follow it as they are read, or one decoded frame after the other, so that an instance
of any size takes little memory. Before the first byte is sent, the first frame is decoded, and the rest is looked for.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Generator, Iterator
from contextlib import closing
from io import BytesIO
from itertools import chain
from typing import BinaryIO, Final, TypeVar

from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.dicomweb.decoding import Decoded, FrameDecoder
from dicom_node.dicomweb.decoding_budget import FIRST_WAIT_S, LATER_WAIT_S, DecodingBudget
from dicom_node.dicomweb.encoding import COPIES_OF_A_FRAME, Encoded, encode
from dicom_node.dicomweb.errors import NotAcceptableError, UnreadableObjectError
from dicom_node.dicomweb.frame_sources import FrameShape, FrameSources
from dicom_node.dicomweb.multipart import in_chunks, read_chunks
from dicom_node.dicomweb.parsing import MAX_HEADER_BYTES, MAX_INFLATED_BYTES, parsing, read_without_pixels
from dicom_node.store import InstanceRow, ObjectStore
from part10.file_meta import file_meta
from part10.inflate import bounded_for_pydicom, inflated_chunks
from part10.pixel_data import PixelDataLocation, encapsulated_end
from part10.walk import UNDEFINED_LENGTH

MAX_ELEMENT_BYTES: Final = 2**32 - 2
_EXTENDED_OFFSETS: Final = (0x7FE00001, 0x7FE00002)

PIXEL_DATA: Final = 0x7FE00010
_PIXEL_ATTRIBUTES: Final = (0x00280004, 0x00280006, 0x00280101, 0x00280102)  # that encoding may change
_ITEM: Final = struct.pack("<HH", 0xFFFE, 0xE000)
_END_OF_SEQUENCE: Final = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)

T = TypeVar("T")


def explicit_little_endian(
    objects: ObjectStore, row: InstanceRow, budget: DecodingBudget, *, is_first: bool
) -> Iterator[bytes]:
    """Return Part 10 bytes of an instance with its pixels decompressed, in chunks.

    Parameters
    ----------
    is_first
        Nothing of the answer is sent yet, so that the client can be told to come again instead of waiting longer.

    Raises
    ------
    NotAcceptableError
        The instance is too large, cannot be decoded, or is big endian (its pixels would need swapping).
    BusyError
        Other requests use the budget.
    """
    make = _inflated if UID(row.transfer_syntax_uid).is_deflated else _written
    yield from decodable(make(objects, row, budget, FIRST_WAIT_S if is_first else LATER_WAIT_S), row)


def encoded_losslessly(
    objects: ObjectStore, row: InstanceRow, syntax: UID, budget: DecodingBudget, *, is_first: bool
) -> Iterator[bytes]:
    """Return Part 10 bytes of an instance with its frames encoded in another transfer syntax, one of `ENCODERS`.

    Parameters and errors are those of `explicit_little_endian`.
    """
    wait_s = FIRST_WAIT_S if is_first else LATER_WAIT_S
    yield from decodable(_recoded(objects, row, syntax, budget, wait_s), row)


def _recoded(
    objects: ObjectStore, row: InstanceRow, syntax: UID, budget: DecodingBudget, wait_s: float
) -> Generator[bytes, None, None]:
    ds, place = read_without_pixels(objects, row)
    stored = UID(row.transfer_syntax_uid)
    if place is None and not stored.is_deflated:
        yield _encoded(ds, syntax)
        return
    shape = FrameShape.of(ds, is_native=not stored.is_encapsulated)
    sources = FrameSources(objects, row, shape, budget)
    for number in range(1, shape.n_frames + 1):
        with closing(sources.described(ds, place, number, wait_s=wait_s if number == 1 else LATER_WAIT_S)) as frames:
            decoded = next(frames)
            with budget.reserve(COPIES_OF_A_FRAME * len(decoded.pixels), wait_s=LATER_WAIT_S):
                encoded = encode(decoded, ds, syntax)
        if number == 1:
            first = encoded
            head = _encoded_head(ds, decoded, encoded, syntax)
            yield head + _element_head(PIXEL_DATA, "OB", UNDEFINED_LENGTH) + _ITEM + bytes(4)
        elif (encoded.photometric_interpretation, encoded.bits_stored) != (
            first.photometric_interpretation,
            first.bits_stored,
        ):
            raise ValueError("frames that need different headers")
        n_padding = len(encoded.frame) % 2
        yield _ITEM + struct.pack("<I", len(encoded.frame) + n_padding)
        yield from in_chunks(encoded.frame + bytes(n_padding))
    yield _END_OF_SEQUENCE
    if place is not None:
        with objects.open(row.digest, dataset_bytes=row.dataset_bytes) as file:
            n_bytes = os.fstat(file.fileno()).st_size
            end = encapsulated_end(file, place.offset) if place.n_bytes is None else place.offset + place.n_bytes
            yield _rest(file, end, n_bytes, row)


def _encoded_head(ds: Dataset, decoded: Decoded, encoded: Encoded, syntax: UID) -> bytes:
    """Return the header with what encoding has made of the pixels; ``ds`` still describes the stored ones."""
    before = [ds[tag] for tag in _PIXEL_ATTRIBUTES if tag in ds]
    kept = [DataElement(element.tag, element.VR, element.value) for element in before]
    _describe(ds, decoded)
    ds.PhotometricInterpretation = encoded.photometric_interpretation
    ds.BitsStored, ds.HighBit = encoded.bits_stored, encoded.bits_stored - 1
    head = _encoded(ds, syntax)
    for tag in _PIXEL_ATTRIBUTES:
        ds.pop(tag, None)
    for element in kept:
        ds.add(element)
    return head


def decodable(pieces: Generator[T, None, None], row: InstanceRow) -> Generator[T, None, None]:
    """Yield pieces; if the first one cannot be made, the instance is only acceptable as it is stored."""
    with closing(pieces):
        try:
            with parsing(row.sop_instance_uid):
                first = next(pieces)
        except (UnreadableObjectError, MemoryError) as error:
            stored = f"transfer-syntax={row.transfer_syntax_uid} (or transfer-syntax=*)"
            raise NotAcceptableError(f"instance {row.sop_instance_uid}", stored) from error
        yield first
        with parsing(row.sop_instance_uid):
            yield from pieces


def _inflated(objects: ObjectStore, row: InstanceRow, _: DecodingBudget, __: float) -> Generator[bytes, None, None]:
    """Inflate twice: before the first byte is sent, it must be known that the last one can be."""
    for is_sent in (False, True):
        with objects.open(row.digest, dataset_bytes=row.dataset_bytes) as file:
            chunks = inflated_chunks(file, max_bytes=MAX_INFLATED_BYTES)
            next(chunks)  # its file meta information
            if is_sent:
                yield _file_meta(row, ExplicitVRLittleEndian)
            for chunk in chunks:
                if is_sent:
                    yield chunk


def _written(
    objects: ObjectStore, row: InstanceRow, budget: DecodingBudget, wait_s: float
) -> Generator[bytes, None, None]:
    ds, place = read_without_pixels(objects, row)
    syntax = UID(row.transfer_syntax_uid)
    with objects.open(row.digest, dataset_bytes=row.dataset_bytes) as file:
        if place is None:
            yield _encoded(ds)
            return
        if not syntax.is_little_endian:
            raise ValueError("its pixels would need swapping")
        n_bytes = os.fstat(file.fileno()).st_size
        end = encapsulated_end(file, place.offset) if place.n_bytes is None else place.offset + place.n_bytes
        if end > n_bytes:
            raise ValueError("pixel data ends before its length says")
        rest = _rest(file, end, n_bytes, row)
        if place.n_bytes is not None:
            yield _encoded(ds) + _element_head(place.tag, place.vr, place.n_bytes)
            file.seek(place.offset)
            yield from read_chunks(file, place.n_bytes)
        else:
            yield from _decompressed(file, ds, place, syntax, budget, wait_s)
        if rest:
            yield rest


def _decompressed(
    file: BinaryIO, ds: Dataset, place: PixelDataLocation, syntax: UID, budget: DecodingBudget, wait_s: float
) -> Iterator[bytes]:
    decoder = FrameDecoder(file, ds, place, syntax, budget)
    with closing(decoder.decode_all(wait_s=wait_s, later_wait_s=LATER_WAIT_S)) as frames:
        first = next(frames)
        n_bytes = decoder.n_frames * len(first.pixels)
        if n_bytes > MAX_ELEMENT_BYTES:
            raise ValueError(
                f"{n_bytes} bytes of pixel data, at most {MAX_ELEMENT_BYTES} fit in explicit VR little endian"
            )
        _describe(ds, first)
        yield _encoded(ds) + _element_head(place.tag, "OB" if ds.BitsAllocated <= 8 else "OW", n_bytes + n_bytes % 2)
        for frame in chain((first,), frames):
            if len(frame.pixels) != len(first.pixels):
                raise ValueError("frames of different sizes")
            yield from in_chunks(frame.pixels)
    if n_bytes % 2:
        yield b"\0"


def _describe(ds: Dataset, decoded: Decoded) -> None:
    """Change the header to what decoding has made of the pixels."""
    ds.PhotometricInterpretation = decoded.photometric_interpretation
    if decoded.samples_per_pixel > 1:
        ds.PlanarConfiguration = 0
    for tag in _EXTENDED_OFFSETS:
        if tag in ds:
            del ds[tag]


def _rest(file: BinaryIO, end: int, n_bytes: int, row: InstanceRow) -> bytes:
    """What follows the pixel data, encoded in explicit VR: private elements of some vendors, padding."""
    if end >= n_bytes:
        return b""
    if n_bytes - end > MAX_HEADER_BYTES:
        raise ValueError(f"{n_bytes - end} bytes follow the pixel data, at most {MAX_HEADER_BYTES} are read")
    file.seek(end)
    meta = _file_meta(row, row.transfer_syntax_uid)
    ds = dcmread(bounded_for_pydicom(BytesIO(meta + file.read(n_bytes - end)), max_inflated_bytes=0))
    written = _encoded(ds)
    ds.clear()
    return written[len(_encoded(ds)) :]


def _file_meta(row: InstanceRow, transfer_syntax_uid: str) -> bytes:
    return file_meta(
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
    )


def _encoded(ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(buffer, ds, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def _element_head(tag: int, vr: str, n_bytes: int) -> bytes:
    """Tag, VR and length of pixel data (PS3.5 7.1.2)."""
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, n_bytes)

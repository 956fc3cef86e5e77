"""Frames of an instance as pieces of bytes: as they are stored, or in explicit VR little endian."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.dicomweb.decoding import Decoded, EncodedFrames, FrameDecoder
from dicom_node.dicomweb.decoding_budget import FIRST_WAIT_S, LATER_WAIT_S, DecodingBudget
from dicom_node.dicomweb.multipart import in_chunks, read_chunks
from dicom_node.dicomweb.parsing import MAX_HEADER_BYTES, MAX_INFLATED_BYTES, parsing
from dicom_node.store import InstanceRow, ObjectStore
from part10.inflate import bounded_for_pydicom, inflated_chunks
from part10.pixel_data import PixelDataLocation, read_pixel_data_location

_UNPACKED_COPIES = 10  # of a frame of single bits that begins within a byte: a byte for each bit, and the results

Frames = Generator[Iterator[bytes], None, None]


@dataclass(frozen=True, slots=True)
class FrameShape:
    """How much of native pixel data one frame takes."""

    n_frames: int
    n_bits: int

    @classmethod
    def of(cls, ds: Dataset, *, is_native: bool) -> FrameShape:
        """Shape that the header states; two native pixels of YBR_FULL_422 share their colour (PS3.3 C.7.6.3.1.2)."""
        n_samples = int(ds.get("SamplesPerPixel") or 1)
        if is_native and n_samples == 3 and ds.get("PhotometricInterpretation") == "YBR_FULL_422":
            n_samples = 2
        n_pixels = int(ds.Rows) * int(ds.Columns)
        return cls(int(ds.get("NumberOfFrames") or 1), n_pixels * n_samples * int(ds.BitsAllocated))

    @property
    def n_bytes(self) -> int:
        """Bytes that hold one frame."""
        return -(-self.n_bits // 8)


class FrameSources:
    """Frames of one instance, by number from 1; pieces of a frame are used before the next frame is asked for.

    Iterating raises `UnreadableObjectError` if the instance does not hold such frames, `BusyError` if other requests
    use the memory for decoding.
    """

    def __init__(self, objects: ObjectStore, row: InstanceRow, shape: FrameShape, budget: DecodingBudget) -> None:
        self._objects = objects
        self._row = row
        self._shape = shape
        self._budget = budget

    def stored(self, place: PixelDataLocation, numbers: Sequence[int]) -> Frames:
        """Yield frames as they are stored."""
        with self._open() as file, parsing(self._row.sop_instance_uid):
            if place.n_bytes is not None:
                yield from self._native(file, place.offset, place.n_bytes, numbers)
                return
            encoded = EncodedFrames(file, place, n_frames=self._shape.n_frames, frame_bytes=self._shape.n_bytes)
            for index, number in enumerate(numbers):
                with self._budget.reserve(2 * encoded.max_bytes, wait_s=_wait_s(index)) as reservation:
                    frame = encoded.get(number - 1)
                    reservation.shrink(len(frame))
                    yield in_chunks(frame)

    def decoded(self, ds: Dataset, place: PixelDataLocation | None, numbers: Sequence[int]) -> Frames:
        """Yield frames in explicit VR little endian; ``place`` is None if the instance is deflated."""
        syntax = UID(self._row.transfer_syntax_uid)
        with self._open() as file, parsing(self._row.sop_instance_uid):
            if syntax.is_deflated:
                yield from self._inflated(file, numbers)
                return
            if place is None or place.n_bytes is not None or not syntax.is_little_endian:
                raise ValueError("no compressed pixel data in little endian")
            decoder = FrameDecoder(file, ds, place, syntax, self._budget)
            for index, number in enumerate(numbers):
                with closing(decoder.decode(number - 1, wait_s=_wait_s(index))) as frames:
                    yield in_chunks(next(frames).pixels)

    def described(
        self, ds: Dataset, place: PixelDataLocation | None, number: int, *, wait_s: float = FIRST_WAIT_S
    ) -> Generator[Decoded, None, None]:
        """Yield one frame as it is to be drawn, whatever its encoding; its memory is reserved until it is closed."""
        syntax = UID(self._row.transfer_syntax_uid)
        if place is not None and place.n_bytes is None:
            with self._open() as file, parsing(self._row.sop_instance_uid):
                yield from FrameDecoder(file, ds, place, syntax, self._budget).decode(number - 1, wait_s=wait_s)
            return
        if not syntax.is_little_endian:
            raise ValueError("pixels in big endian")
        frames = self.decoded(ds, None, [number]) if place is None else self.stored(place, [number])
        with self._budget.reserve(2 * self._shape.n_bytes, wait_s=wait_s) as reservation, closing(frames):
            pixels = b"".join(next(frames))
            reservation.shrink(len(pixels))
            n_samples = int(ds.get("SamplesPerPixel") or 1)
            is_interleaved = not int(ds.get("PlanarConfiguration") or 0)
            yield Decoded(pixels, str(ds.get("PhotometricInterpretation", "")), n_samples, is_interleaved)

    def _inflated(self, file: BinaryIO, numbers: Sequence[int]) -> Frames:
        bounded = bounded_for_pydicom(file, max_inflated_bytes=MAX_HEADER_BYTES)
        dcmread(bounded, stop_before_pixels=True)
        place = read_pixel_data_location(bounded, is_implicit_vr=False, is_little_endian=True)
        if place is None or place.n_bytes is None:
            raise ValueError("no pixel data of a stated length")
        with self._budget.reserve(2 * place.n_bytes):
            pixels = BytesIO()
            file.seek(0)
            position = 0
            for piece in inflated_chunks(file, max_bytes=MAX_INFLATED_BYTES):
                pixels.write(piece[max(0, place.offset - position) :])
                position += len(piece)
                if position >= place.offset + place.n_bytes:
                    break
            yield from self._native(pixels, 0, place.n_bytes, numbers)

    def _native(self, file: BinaryIO, offset: int, n_bytes: int, numbers: Sequence[int]) -> Frames:
        """Yield frames of native pixel data; those of one bit a pixel may begin within a byte (PS3.5 8.1.1)."""
        n_bits = self._shape.n_bits
        n_bytes = min(n_bytes, file.seek(0, SEEK_END) - offset)
        if max(numbers) * n_bits > 8 * n_bytes:
            raise ValueError(f"{n_bytes} bytes of pixel data end before frame {max(numbers)} does")
        for index, number in enumerate(numbers):
            first_byte, bit = divmod((number - 1) * n_bits, 8)
            file.seek(offset + first_byte)
            if bit == 0 and n_bits % 8 == 0:
                yield read_chunks(file, n_bits // 8)
                continue
            with self._budget.reserve(_UNPACKED_COPIES * self._shape.n_bytes, wait_s=_wait_s(index)):
                octets = b"".join(read_chunks(file, -(-(bit + n_bits) // 8)))
                bits = np.unpackbits(np.frombuffer(octets, np.uint8), bitorder="little")[bit : bit + n_bits]
                yield in_chunks(np.packbits(bits, bitorder="little").tobytes())

    def _open(self) -> BinaryIO:
        return self._objects.open(self._row.digest, dataset_bytes=self._row.dataset_bytes)


def _wait_s(index: int) -> float:
    """How long the frame of this rank in a request may wait: only before the first one can the client be told."""
    return LATER_WAIT_S if index else FIRST_WAIT_S

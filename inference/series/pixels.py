"""Encoded frames → decoded words, and whether an instance holds as many frames as its header says.

Decoding is done by imagecodecs (BSD; libjpeg-turbo, CharLS, OpenJPEG), which releases the interpreter lock, so that
threads decode in parallel; docs/decisions/0020.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_fragments, generate_frames, parse_basic_offsets
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from inference.series.encoded import PixelData
from inference.series.errors import (
    NoPixelDataError,
    PixelDataTooLongError,
    PixelDataTruncatedError,
    PixelDataUndecodableError,
    PixelFormatError,
    TransferSyntaxUnsupportedError,
    UnreadableError,
)
from inference.series.instances import Instance
from inference.series.pixel_format import PixelFormat
from inference.series.planes import Plane
from inference.series.uids import name_of_uid
from part10.codestream import codestream_size

Words = NDArray[np.integer] | NDArray[np.floating]

FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, PIXEL_DATA = 0x7FE00008, 0x7FE00009, 0x7FE00010
CODESTREAM_HEAD_BYTES = 3  # SOI and a marker; SOC and a marker
SURPLUS_STEP_BYTES = 2**24  # read at once

# Retired, but still in archives (PS3.5-2004): spectral selection and full progression, 8 and 12 bit.
RETIRED_JPEG = ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")

RLE_SLACK_PIXELS = 64  # some encoders end a segment with a packet of padding

DECODERS: Mapping[str, Callable[[bytes], NDArray[np.integer]]] = {
    **dict.fromkeys((JPEGBaseline8Bit, JPEGExtended12Bit, *RETIRED_JPEG), imagecodecs.jpeg8_decode),
    **dict.fromkeys((JPEGLossless, JPEGLosslessSV1), imagecodecs.jpeg_decode),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), imagecodecs.jpegls_decode),
    **dict.fromkeys((JPEG2000, JPEG2000Lossless), imagecodecs.jpeg2k_decode),
    **dict.fromkeys((HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), imagecodecs.jpeg2k_decode),
}


def check_pixel_data(instance: Instance, pixel_format: PixelFormat) -> int:
    """Refuse what does not hold the frames that the header promises, before anything is allocated for them.

    Returns
    -------
    int
        Bytes behind the last frame that hold nothing, beyond the one that makes the length even (PS3.5 8.1.1).

    Raises
    ------
    UnsuitableObjectError
        There are fewer bytes, another frame behind the last one, or no way to decode them.
    """
    pixel_data = instance.pixel_data
    if not pixel_data:
        raise NoPixelDataError(instance.name)
    uid = UID(instance.transfer_syntax_uid)
    is_compressed = uid in DECODERS or uid == RLELossless
    if pixel_data.tag != PIXEL_DATA and (
        is_compressed or pixel_format.bits_allocated != (32 if pixel_data.tag == FLOAT_PIXEL_DATA else 64)
    ):
        raise PixelFormatError(
            instance.name, f"{pixel_format.bits_allocated} bits of floating point, {name_of_uid(uid)}"
        )
    if is_compressed:
        return 0
    if not uid.is_transfer_syntax or uid.is_private or uid.is_compressed:
        raise TransferSyntaxUnsupportedError(instance.name, name_of_uid(uid))
    if pixel_data.is_encapsulated:
        raise PixelDataUndecodableError(instance.name, f"fragments, though the transfer syntax is {name_of_uid(uid)}")
    expected = frame_bytes(pixel_format) * pixel_format.n_frames
    n_surplus = len(pixel_data) - expected
    if n_surplus < 0:
        raise PixelDataTruncatedError(instance.name, f"{len(pixel_data)} bytes, expected {expected}")
    if n_surplus >= frame_bytes(pixel_format) and not _is_repeated_or_empty(pixel_data, expected):
        detail = f"{len(pixel_data)} bytes, expected {expected} for {pixel_format.n_frames} frames"
        raise PixelDataTooLongError(instance.name, detail)
    return n_surplus if n_surplus > expected % 2 else 0


def _is_repeated_or_empty(pixel_data: PixelData, n_expected: int) -> bool:
    """Whether what lies behind the expected bytes is them again, or zeros: nothing that is lost when it is left out."""
    near = pixel_data.held_if_far()
    for start in range(n_expected, len(near), n_expected):
        for begin in range(0, n_expected, SURPLUS_STEP_BYTES):
            n_bytes = min(SURPLUS_STEP_BYTES, n_expected - begin)
            surplus = near.read_part(start + begin, n_bytes)
            if surplus.strip(b"\0") and surplus != near.read_part(begin, len(surplus)):
                return False
    return True


def frame_bytes(pixel_format: PixelFormat) -> int:
    """Bytes of one uncompressed frame."""
    return pixel_format.rows * pixel_format.columns * pixel_format.bits_allocated // 8


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One frame as received; its bytes are fetched when it is decoded."""

    name: str
    pixel_data: PixelData
    begin: int
    n_bytes: int
    is_encapsulated: bool = False

    def fetch(self) -> bytes:
        """The bytes of the frame alone."""
        try:
            octets = self.pixel_data.read_part(self.begin, self.n_bytes)
        except OSError as error:
            raise UnreadableError(self.name, f"cannot be read: {error.strerror or type(error).__name__}") from error
        if self.is_encapsulated:
            return _frames_in(octets, 1, self.name)[0]
        if len(octets) < self.n_bytes:
            raise PixelDataTruncatedError(self.name, f"{len(octets)} bytes of a frame, expected {self.n_bytes}")
        return octets


Encoded = EncodedFrame | bytes


def encoded_frames(instance: Instance, pixel_format: PixelFormat) -> list[Encoded]:
    """The frames of an instance, left where they are as far as they can be found there."""
    pixel_data = instance.pixel_data
    if pixel_data is None:
        raise NoPixelDataError(instance.name)
    n_frames, uid = pixel_format.n_frames, instance.transfer_syntax_uid
    if uid in DECODERS or uid == RLELossless:
        if n_frames == 1:
            return [EncodedFrame(instance.name, pixel_data, 0, len(pixel_data), is_encapsulated=True)]
        return [*_frames_in(pixel_data.read(), n_frames, instance.name)]
    if n_frames > 1:
        pixel_data = pixel_data.held_if_far()
    n_bytes = frame_bytes(pixel_format)
    return [EncodedFrame(instance.name, pixel_data, n_bytes * index, n_bytes) for index in range(n_frames)]


def _frames_in(data: bytes, n_frames: int, name: str) -> list[bytes]:
    """Put the fragments of encapsulated frames together."""
    try:
        frames = list(generate_frames(data, number_of_frames=n_frames))
        n_begun = _n_begun(data) if n_frames == 1 else n_frames
    except (ValueError, struct.error, EOFError, OSError, IndexError) as error:
        raise PixelDataUndecodableError(name, "damaged fragments") from error
    if len(frames) < n_frames:
        raise PixelDataTruncatedError(name, f"{len(frames)} frames, expected {n_frames}")
    if len(frames) > n_frames and any(frame != frames[0] for frame in frames[n_frames:]):
        raise PixelDataTooLongError(name, f"{len(frames)} frames, expected {n_frames}")
    if n_begun > n_frames and len(frames) == n_frames:
        raise PixelDataTooLongError(name, f"{n_begun} codestreams, expected {n_frames}")
    return frames[:n_frames]


def _n_begun(data: bytes) -> int:
    """Number of fragments that begin as a codestream does: without offsets, one frame is all fragments together."""
    buffer = io.BytesIO(data)
    parse_basic_offsets(buffer)
    heads = [fragment[:CODESTREAM_HEAD_BYTES] for fragment in generate_fragments(buffer)]
    return sum(head == heads[0] for head in heads)


def decoded_words(frame: Encoded, plane: Plane) -> Words:
    """Decode one frame to (row, column): floats, or unsigned words as they were stored, with all their bits."""
    encoded = frame.fetch() if isinstance(frame, EncodedFrame) else frame
    pixel_format, pixel_data = plane.pixel_format, plane.instance.pixel_data
    uid, name = plane.instance.transfer_syntax_uid, plane.instance.name
    shape = (pixel_format.rows, pixel_format.columns)
    unsigned = np.dtype(f"u{pixel_format.bits_allocated // 8}")
    if uid in DECODERS:
        words = _decoded(encoded, uid, shape, name)
        if words.dtype.itemsize > unsigned.itemsize:
            bits = f"codestream of more than {pixel_format.bits_allocated} bits, which are allocated"
            raise PixelDataUndecodableError(name, bits)
        return words.astype(unsigned, copy=False)
    if uid == RLELossless:
        return _decoded_rle(encoded, shape, unsigned, name)
    order: Literal["<", ">"] = ">" if uid == ExplicitVRBigEndian else "<"
    if pixel_data is not None and pixel_data.tag != PIXEL_DATA:
        return np.frombuffer(encoded, np.dtype(f"{order}f{pixel_format.bits_allocated // 8}")).reshape(shape)
    return np.frombuffer(encoded, unsigned.newbyteorder(order)).reshape(shape).astype(unsigned, copy=False)


def _decoded(encoded: bytes, uid: str, shape: tuple[int, int], name: str) -> NDArray[np.integer]:
    """Decode a JPEG family codestream whose own size is what the header says."""
    size = codestream_size(encoded)
    if size != shape:
        raise PixelDataUndecodableError(name, f"codestream of {size} rows and columns, expected {shape}")
    # libjpeg and OpenJPEG fill what is missing with grey and go on: only the end marker tells (EOI, EOC: FFD9).
    if not encoded.rstrip(b"\x00\xff").endswith(b"\xff\xd9"):
        raise PixelDataTruncatedError(name, "codestream without its end marker")
    try:
        words = DECODERS[uid](encoded)
    except (RuntimeError, ValueError) as error:  # imagecodecs' errors are RuntimeErrors
        raise PixelDataUndecodableError(name, name_of_uid(uid)) from error
    if words.shape != shape:
        raise PixelDataUndecodableError(name, f"decodes to shape {words.shape}, expected {shape}")
    return words


def _decoded_rle(
    encoded: bytes, shape: tuple[int, int], unsigned: np.dtype[np.unsignedinteger], name: str
) -> NDArray[np.integer]:
    """Decode one RLE frame (PS3.5 annex G)."""
    n_pixels = shape[0] * shape[1]
    out = np.zeros(n_pixels + RLE_SLACK_PIXELS, unsigned.newbyteorder("<"))
    try:
        octets = imagecodecs.dicomrle_decode(encoded, out.dtype, out=out.view(np.uint8))  # type: ignore[arg-type]  # stub
    except (RuntimeError, ValueError) as error:
        raise PixelDataUndecodableError(name, "RLE Lossless") from error
    if len(octets) < n_pixels * unsigned.itemsize:
        raise PixelDataTruncatedError(name, f"{len(octets)} bytes, expected {n_pixels * unsigned.itemsize}")
    return out[:n_pixels].reshape(shape).astype(unsigned, copy=False)

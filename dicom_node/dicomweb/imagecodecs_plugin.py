"""Decode frames with imagecodecs, as a plugin of pydicom's decoders; docs/decisions/0020.

pydicom's own RLE decoder is written in Python and holds the interpreter lock; for JPEG Lossless it has none that may be
shipped. imagecodecs needs one buffer for the result, is fast, and lets other threads run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
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

from part10.codestream import codestream_size

NAME: Final = "imagecodecs"
# One packet of two bytes stands for at most 128 (PS3.5 G.3.1): a frame cannot be larger than this many times its bytes.
MAX_RLE_RATIO: Final = 64
_RLE_SLACK_BYTES: Final = 128  # some encoders end a segment with a packet of padding

_CODECS: Final[Mapping[str, Callable[[bytes], NDArray[np.integer]]]] = {
    **dict.fromkeys((JPEGBaseline8Bit, JPEGExtended12Bit), imagecodecs.jpeg8_decode),
    **dict.fromkeys((JPEGLossless, JPEGLosslessSV1), imagecodecs.jpeg_decode),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), imagecodecs.jpegls_decode),
    **dict.fromkeys((JPEG2000, JPEG2000Lossless), imagecodecs.jpeg2k_decode),
    **dict.fromkeys((HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), imagecodecs.jpeg2k_decode),
}


def is_available(uid: str) -> bool:
    """Whether frames in a transfer syntax can be decoded; pydicom asks."""
    return uid in _CODECS or uid == RLELossless


DECODER_DEPENDENCIES: Final = dict.fromkeys((*_CODECS, RLELossless), ("imagecodecs",))


def register() -> None:
    """Make the plugin known to pydicom; once in a process."""
    for uid in (*_CODECS, RLELossless):
        decoder = get_decoder(uid)
        if NAME not in decoder.available_plugins:
            decoder.add_plugin(NAME, (__name__, "decode_frame"))


def decode_frame(encoded: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Return a decoded frame in words of the allocated size; pydicom calls it.

    Raises
    ------
    ValueError
        The frame is not what the header says, or has several samples in a JPEG, whose colours pydicom converts better.
    """
    n_bytes = int(runner.frame_length(unit="bytes"))
    if runner.transfer_syntax == RLELossless:
        return _decoded_rle(encoded, runner, n_bytes)
    if runner.samples_per_pixel != 1:
        raise ValueError("several samples per pixel")
    size = codestream_size(encoded)
    if size != (runner.rows, runner.columns):
        raise ValueError(f"codestream of {size} rows and columns, expected {(runner.rows, runner.columns)}")
    words = _CODECS[runner.transfer_syntax](encoded)
    unsigned = np.dtype(f"<u{runner.bits_allocated // 8}")
    if words.dtype.itemsize > unsigned.itemsize or words.shape != (runner.rows, runner.columns):
        raise ValueError(f"decodes to {words.dtype} of shape {words.shape}, {runner.bits_allocated} bits allocated")
    return words.astype(unsigned, copy=False).tobytes()


def _decoded_rle(encoded: bytes, runner: DecodeRunner, n_bytes: int) -> bytearray:
    if n_bytes > MAX_RLE_RATIO * len(encoded):
        raise ValueError(f"{len(encoded)} bytes of RLE, which cannot be a frame of {n_bytes}")
    out = bytearray(n_bytes + _RLE_SLACK_BYTES)
    dtype = np.dtype(f"<u{runner.bits_allocated // 8}")
    found = imagecodecs.dicomrle_decode(encoded, dtype, out=np.frombuffer(out, np.uint8))  # type: ignore[arg-type]  # stub
    if len(found) < n_bytes:
        raise ValueError(f"{len(found)} bytes, expected {n_bytes}")
    del found, out[n_bytes:]
    runner.set_option("planar_configuration", 1)
    return out

"""Encode frames without loss, for clients that ask for a transfer syntax other than the stored one (PS3.5 8.2 and A.4).

Nothing is encoded with loss: an instance with other pixel values would need another SOP Instance UID; pictures with
loss are what ``rendered`` is for. Encoders are those of imagecodecs. It has none for JPEG Lossless with
predictor 1 (.70); its own takes predictor 6 (.57).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, HTJ2KLossless, JPEG2000Lossless, JPEGLossless, JPEGLSLossless, RLELossless

from dicom_node.dicomweb.decoding import Decoded

COPIES_OF_A_FRAME: Final = 4  # in addition to the decoded one: its array, its planes, the encoder's buffer, the result
MAX_RLE_SEGMENTS: Final = 15  # PS3.5 G.5
_COD: Final = b"\xff\x52"
_COD_TRANSFORM: Final = 8  # bytes from the marker to the multiple component transformation (ISO 15444-1 A.6.1)
_JPEG_LS: Final = b"\xff\xd8\xff\xf7"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded frame, and what its header has to say of it."""

    frame: bytes
    photometric_interpretation: str
    bits_stored: int


def encode(decoded: Decoded, ds: Dataset, syntax: UID) -> Encoded:
    """Encode a frame.

    Parameters
    ----------
    ds
        Header of the instance.
    syntax
        One of `ENCODERS`.

    Raises
    ------
    ValueError
        The encoder does not take such pixels.
    """
    n_bits, n_samples = int(ds.BitsAllocated), decoded.samples_per_pixel
    if n_bits not in (8, 16) or n_samples not in (1, 3):
        raise ValueError(f"{n_samples} samples of {n_bits} bits cannot be encoded")
    if decoded.photometric_interpretation in {"YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422"}:
        raise ValueError("pixels that share their colour cannot be encoded")
    signed = "i" if int(ds.get("PixelRepresentation") or 0) else "u"
    values = np.frombuffer(decoded.pixels, f"<{signed}{n_bits // 8}")
    shape = (int(ds.Rows), int(ds.Columns))
    if n_samples == 1:
        pixels = values.reshape(shape)
    elif decoded.is_interleaved:
        pixels = values.reshape((*shape, n_samples))
    else:
        pixels = np.moveaxis(values.reshape((n_samples, *shape)), 0, -1)
    bits_stored = int(ds.get("BitsStored") or n_bits)
    if syntax != RLELossless and not _fit(pixels, bits_stored):
        raise ValueError(f"values beyond {bits_stored} bits, perhaps an overlay in unused ones")
    return ENCODERS[syntax](np.ascontiguousarray(pixels), decoded.photometric_interpretation, bits_stored)


def _fit(pixels: NDArray[Any], n_bits: int) -> bool:
    low, high = (-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1) if pixels.dtype.kind == "i" else (0, 2**n_bits - 1)
    return bool(low <= pixels.min() and pixels.max() <= high)


def _as_unsigned(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.view(f"<u{pixels.dtype.itemsize}")


def _rle(pixels: NDArray[Any], photometric: str, bits_stored: int) -> Encoded:
    """Return a segment for each byte of each sample, the most significant first, rows on their own (PS3.5 G)."""
    rows, columns = pixels.shape[:2]
    n_bytes = pixels.dtype.itemsize
    samples = _as_unsigned(pixels).reshape(rows, columns, -1)
    octets = np.ascontiguousarray(samples).view(np.uint8).reshape(rows, columns, samples.shape[2], n_bytes)
    segments = []
    for sample in range(samples.shape[2]):
        for octet in reversed(range(n_bytes)):
            plane = np.ascontiguousarray(octets[:, :, sample, octet])
            segment = bytes(imagecodecs.packbits_encode(plane))
            segments.append(segment + bytes(len(segment) % 2))
    if len(segments) > MAX_RLE_SEGMENTS:
        raise ValueError(f"{len(segments)} segments of RLE, at most {MAX_RLE_SEGMENTS}")
    offsets = np.cumsum([64, *(len(segment) for segment in segments[:-1])]).tolist()
    head = struct.pack("<16L", len(segments), *offsets, *[0] * (MAX_RLE_SEGMENTS - len(segments)))
    return Encoded(head + b"".join(segments), photometric, bits_stored)


def _jpeg_ls(pixels: NDArray[Any], photometric: str, _: int) -> Encoded:
    encoded = bytes(imagecodecs.jpegls_encode(_as_unsigned(pixels)))
    begin = encoded.index(_JPEG_LS)  # after a SPIFF header, which is no part of a codestream in DICOM
    return Encoded(encoded[begin:], photometric, 8 * pixels.dtype.itemsize)


def _jpeg_2000(pixels: NDArray[Any], photometric: str, bits_stored: int) -> Encoded:
    encoded = imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", reversible=True, mct=False, bitspersample=bits_stored
    )
    return Encoded(bytes(encoded), photometric, bits_stored)


def _htj2k(pixels: NDArray[Any], photometric: str, _: int) -> Encoded:
    encoded = bytes(imagecodecs.htj2k_encode(pixels, reversible=True))
    is_transformed = encoded[encoded.index(_COD) + _COD_TRANSFORM] == 1
    if is_transformed and photometric != "RGB":
        raise ValueError(f"HTJ2K of {photometric}")
    return Encoded(encoded, "YBR_RCT" if is_transformed else photometric, 8 * pixels.dtype.itemsize)


def _jpeg_lossless(pixels: NDArray[Any], photometric: str, bits_stored: int) -> Encoded:
    if pixels.ndim != 2:
        raise ValueError("JPEG Lossless of several samples")
    n_bits = 8 * pixels.dtype.itemsize
    precision = bits_stored if pixels.dtype.kind == "u" else n_bits
    encoded = bytes(imagecodecs.ljpeg_encode(_as_unsigned(pixels), bitspersample=precision))
    return Encoded(encoded, photometric, precision)


ENCODERS: Final[Mapping[UID, Callable[[NDArray[Any], str, int], Encoded]]] = {
    JPEG2000Lossless: _jpeg_2000,
    HTJ2KLossless: _htj2k,
    JPEGLSLossless: _jpeg_ls,
    RLELossless: _rle,
    JPEGLossless: _jpeg_lossless,
}
"""Transfer syntaxes that frames can be encoded in, the first that a client takes is used."""

DEFAULT_OF_TYPE: Final[Mapping[str, UID]] = {
    "image/jp2": JPEG2000Lossless,
    "image/jphc": HTJ2KLossless,
    "image/jls": JPEGLSLossless,
    "image/dicom-rle": RLELossless,
}
"""Media type of frames → transfer syntax if a client names none (PS3.18 table 8.7.3-5); `image/jpeg` means .70."""

"""Draw one frame: its values as grey levels or colours, its region scaled into the viewport, as an image file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.dicomweb.decoding import Decoded
from dicom_node.dicomweb.rendering.grayscale import attributes_of_frame, shown_grey
from dicom_node.dicomweb.rendering.parameters import MAX_VIEWPORT_PIXELS, RenderParameters, Viewport

FORMATS: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF", "image/jp2": "JPEG2000"}
"""Media types that pictures are sent in → names of Pillow's formats."""
BYTES_PER_PIXEL: Final = 24  # of the frame: stored values twice, rescaled ones (8), shown ones twice (8), grey levels
BYTES_PER_COLOUR: Final = 4
BYTES_PER_SHOWN_PIXEL: Final = 12  # colours, twice while they are mirrored, and the encoded file
_KEYWORDS: Final = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_SAME_RATIO: Final = 0.01
_SMALLEST_SIDE: Final = 1
_REDUCING_GAP: Final = 3.0
_MOST_ROWS_PER_ROW: Final = 2 * _REDUCING_GAP  # that are left of the frame, for a row of the picture


def draw(ds: Dataset, decoded: Decoded, *, tag: int, index: int, parameters: RenderParameters) -> Image.Image:
    """Draw a frame.

    Parameters
    ----------
    ds
        Header of the instance.
    decoded
        The frame in the words of explicit VR little endian.
    tag
        Of its pixel data.
    index
        Of the frame, from 0.

    Raises
    ------
    ValueError
        The header does not describe such a frame; what else `part10.damage.PYDICOM_ERRORS` lists is possible.
    """
    stored = stored_values(ds, decoded, tag)
    attributes = attributes_of_frame(ds, index)
    photometric = decoded.photometric_interpretation
    if stored.ndim == 3:
        picture = Image.fromarray(_in_8_bits(stored, int(ds.BitsStored)), "RGB")
    elif photometric == "PALETTE COLOR":
        colours = apply_color_lut(stored, ds)
        n_bits = 8 if colours.dtype.itemsize == 1 else 16
        picture = Image.fromarray(_in_8_bits(colours[..., :3], n_bits), "RGB")
    else:
        is_inverted = photometric == "MONOCHROME1"
        grey = shown_grey(stored, attributes, is_inverted=is_inverted, window=parameters.window)
        picture = Image.fromarray(grey, "L")
    fit = _fit(picture.size, parameters.viewport, _aspect(attributes))
    return picture if fit is None else _scaled(picture, fit, parameters.viewport)


def encode_picture(picture: Image.Image, media_type: str, quality: int) -> bytes:
    """Return a picture as a file of the media type; without anything of the header in it."""
    buffer = BytesIO()
    options: dict[str, Any] = {"quality": quality} if media_type == "image/jpeg" else {}
    if media_type == "image/jp2":
        options = {"irreversible": quality < 100, "quality_mode": "rates", "quality_layers": [_rate(quality)]}
    picture.save(buffer, FORMATS[media_type], **options)
    return buffer.getvalue()


def stored_values(ds: Dataset, decoded: Decoded, tag: int) -> NDArray[Any]:
    """Return a frame as (row, column) values, or (row, column, 3) in RGB."""
    options = as_pixel_options(ds, number_of_frames=1, pixel_keyword=_KEYWORDS[tag], as_rgb=True)
    options["photometric_interpretation"] = decoded.photometric_interpretation
    options["samples_per_pixel"] = decoded.samples_per_pixel
    options["pixel_vr"] = "OW" if int(ds.BitsAllocated) > 8 else "OB"
    options.pop("extended_offsets", None)
    if decoded.is_interleaved and decoded.samples_per_pixel > 1:
        options["planar_configuration"] = 0
    pixels = decoded.pixels + bytes(len(decoded.pixels) % 2)
    values, _ = get_decoder(ExplicitVRLittleEndian).as_array(pixels, index=0, **options)
    return np.asarray(values)


def _in_8_bits(values: NDArray[Any], n_bits: int) -> NDArray[np.uint8]:
    if n_bits <= 8 and values.dtype.itemsize == 1:
        return np.ascontiguousarray(values, dtype=np.uint8)
    return np.ascontiguousarray(values >> max(0, n_bits - 8), dtype=np.uint8)


def _aspect(attributes: Dataset) -> float:
    """Return height by width of a pixel."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        try:
            row, column = (float(value) for value in attributes[keyword].value)
        except (KeyError, TypeError, ValueError):
            continue
        if row > 0 and column > 0 and np.isfinite(row / column):
            return float(np.clip(row / column, 0.01, 100.0))
    return 1.0


@dataclass(frozen=True, slots=True)
class Fit:
    """How a frame is scaled: the region that is cut out (left, top, right, bottom), and the size of the picture."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]  # width, height

    @property
    def n_bytes(self) -> int:
        """Memory for scaling, and for the file; Pillow scales the width first, after it has left out rows."""
        width, height = self.size
        n_rows = min(self.box[3] - self.box[1], _MOST_ROWS_PER_ROW * height)
        return BYTES_PER_SHOWN_PIXEL * width * height + math.ceil(BYTES_PER_COLOUR * width * n_rows)


def fit_of(ds: Dataset, index: int, viewport: Viewport | None) -> Fit | None:
    """Return how a frame, by index from 0, is scaled; None if it is shown as it is.

    Raises
    ------
    OutsideError
        The region of the viewport lies outside the image.
    """
    return _fit((int(ds.Columns), int(ds.Rows)), viewport, _aspect(attributes_of_frame(ds, index)))


def _fit(frame: tuple[int, int], viewport: Viewport | None, aspect: float) -> Fit | None:
    """Scale a region, with square pixels, to the largest size that fits; without a viewport to lose no pixel."""
    box = _box(frame, viewport)
    width, height = box[2] - box[0], (box[3] - box[1]) * (1.0 if abs(aspect - 1.0) <= _SAME_RATIO else aspect)
    if viewport is None or (viewport.width is None and viewport.height is None):
        if viewport is None and abs(aspect - 1.0) <= _SAME_RATIO:
            return None
        scale = max(1.0, 1.0 / aspect)  # no pixel is lost
        scale *= min(1.0, MAX_VIEWPORT_PIXELS / (max(width, height) * scale))
    else:
        scale = min(side / length for side, length in zip(viewport.limits, (width, height), strict=True))
    return Fit(box, (max(_SMALLEST_SIDE, round(width * scale)), max(_SMALLEST_SIDE, round(height * scale))))


def _scaled(picture: Image.Image, fit: Fit, viewport: Viewport | None) -> Image.Image:
    scaled = picture.resize(fit.size, Image.Resampling.BILINEAR, box=fit.box, reducing_gap=_REDUCING_GAP)
    if viewport is not None and (viewport.region_width or 1.0) < 0:
        scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if viewport is not None and (viewport.region_height or 1.0) < 0:
        scaled = scaled.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return scaled


def _box(frame: tuple[int, int], viewport: Viewport | None) -> tuple[float, float, float, float]:
    """Return the region within a frame of so many columns and rows: left, top, right, bottom."""
    columns, rows = frame
    if viewport is None:
        return 0.0, 0.0, float(columns), float(rows)
    across, down = frame if viewport.is_in_fractions else (1, 1)
    left, right = _extent(viewport.x, viewport.region_width, columns, across)
    top, bottom = _extent(viewport.y, viewport.region_height, rows, down)
    if right - left < 1e-3 or bottom - top < 1e-3:
        raise OutsideError(f"{viewport.x:g},{viewport.y:g}", columns, rows)
    return left, top, right, bottom


def _extent(begin: float, length: float | None, limit: int, unit: int) -> tuple[float, float]:
    end = limit if length is None else (begin + abs(length)) * unit
    return min(begin * unit, float(limit)), min(end, float(limit))


class OutsideError(Exception):
    """A viewport's region lies outside the image."""

    def __init__(self, found: str, width: int, height: int) -> None:
        super().__init__(found, width, height)


def _rate(quality: int) -> float:
    """Return the compression ratio of JPEG 2000 for a quality; 0 means lossless."""
    return 0 if quality == 100 else 5 + (100 - quality) * 0.6

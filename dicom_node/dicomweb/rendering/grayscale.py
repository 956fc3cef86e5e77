"""Stored values of a grey image to what is shown: modality LUT, VOI LUT or window, inversion (PS3.3 C.11)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from dicom_node.dicomweb.rendering.parameters import Window

_FUNCTIONS: Final = {"LINEAR": "linear", "LINEAR_EXACT": "linear-exact", "SIGMOID": "sigmoid"}
_GROUPS: Final = ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence")


def attributes_of_frame(ds: Dataset, index: int) -> Dataset:
    """Return the attributes that say how a frame is shown, those of functional groups included (PS3.3 C.7.6.16)."""
    found = Dataset()
    shared = _items(ds, "SharedFunctionalGroupsSequence")[:1]
    own = _items(ds, "PerFrameFunctionalGroupsSequence")[index : index + 1]
    for source in (ds, *(item for group in (*shared, *own) for name in _GROUPS for item in _items(group, name)[:1])):
        for keyword in (
            "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth",
            "VOILUTFunction", "VOILUTSequence", "PixelSpacing",
        ):  # fmt: skip
            if keyword in source:
                found[keyword] = source[keyword]
    for keyword in ("PixelAspectRatio", "ImagerPixelSpacing", "PresentationLUTShape", "PixelPaddingValue"):
        if keyword in ds:
            found[keyword] = ds[keyword]
    found.set_original_encoding(*ds.original_encoding)
    return found


def _items(ds: Dataset, keyword: str) -> list[Dataset]:
    value = ds.get(keyword)
    return list(value) if value else []


def shown_grey(
    stored: NDArray[Any], attributes: Dataset, *, is_inverted: bool, window: Window | None
) -> NDArray[np.uint8]:
    """Return grey levels from 0, black, to 255.

    Parameters
    ----------
    stored
        (row, column) stored values.
    attributes
        From `attributes_of_frame`.
    is_inverted
        Whether the smallest value is white (MONOCHROME1).
    window
        What the client asks for; if it is None, what the image says, or else all of its values.
    """
    values = _rescaled(stored, attributes)
    if window is None and _items(attributes, "VOILUTSequence") and values.dtype.kind in "iu":
        looked_up = apply_voi(values, attributes)
        n_bits = int(attributes.VOILUTSequence[0].LUTDescriptor[2])
        shown = np.multiply(looked_up, 255.0 / (2**n_bits - 1), dtype=np.float32)
    else:
        chosen = window or _stated_window(attributes) or _whole_range(stored, values, attributes)
        shown = _windowed(values, chosen)
    is_inverted = is_inverted or attributes.get("PresentationLUTShape") == "INVERSE"
    np.clip(shown, 0.0, 255.0, out=shown)
    return np.asarray(np.rint(255.0 - shown if is_inverted else shown), dtype=np.uint8)


def _rescaled(stored: NDArray[Any], attributes: Dataset) -> NDArray[Any]:
    if _items(attributes, "ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, attributes))
    slope, intercept = (_first(attributes.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 1.0 and intercept == int(intercept) and stored.dtype.kind in "iu" and abs(intercept) < 2**30:
        return stored if intercept == 0.0 else stored.astype(np.int64) + int(intercept)
    return np.asarray(np.multiply(stored, slope, dtype=np.float32) + np.float32(intercept))


def _stated_window(attributes: Dataset) -> Window | None:
    center, width = (_first(attributes.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = _FUNCTIONS.get(str(attributes.get("VOILUTFunction") or "LINEAR"), "linear")
    if center is None or width is None or width < (1.0 if function == "linear" else 1e-9):
        return None
    return Window(center, width, function)


def _whole_range(stored: NDArray[Any], values: NDArray[Any], attributes: Dataset) -> Window:
    """Return the window of all values that are no padding."""
    padding = attributes.get("PixelPaddingValue")
    inside = values if padding is None else values[stored != padding]
    inside = inside[np.isfinite(inside)] if inside.dtype.kind == "f" else inside
    if inside.size == 0:
        return Window(0.0, 1.0, "linear-exact")
    low, high = float(inside.min()), float(inside.max())
    if low == high:
        return Window(low + 0.5, 1.0, "linear-exact")  # black
    return Window((low + high) / 2, high - low, "linear-exact")


def _windowed(values: NDArray[Any], window: Window) -> NDArray[np.float32]:
    """Return values from 0 to 255, and beyond (PS3.3 C.11.2.1.2.1, C.11.2.1.3)."""
    shown = values.astype(np.float32)
    np.nan_to_num(shown, copy=False)
    if window.function == "sigmoid":
        shown -= np.float32(window.center)
        shown *= np.float32(-4.0 / window.width)
        np.clip(shown, -80.0, 80.0, out=shown)
        return np.asarray(255.0 / (1.0 + np.exp(shown)), dtype=np.float32)
    center, width = window.center, window.width
    if window.function == "linear":
        center, width = center - 0.5, width - 1.0
        if width == 0.0:
            return np.where(shown > center, np.float32(255.0), np.float32(0.0))
    shown -= np.float32(center)
    shown *= np.float32(255.0 / width)
    shown += np.float32(127.5)
    return shown


def _first(value: object) -> float | None:
    """Return the first of several values as a finite number."""
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever a header holds
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None

"""Draw one picture per volume: three slices with both masks, for a quick look.

The picture is drawn in the patient's directions, whatever the array order: axial and coronal with the patient's right
on the left side, sagittal with the face to the left. It contains no text from the instances' headers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Two of Okabe and Ito's colours; they differ in lightness as well, so that they can be distinguished without colour.
FOREGROUND_RGB = (86, 180, 233)
ANONYMIZED_RGB = (230, 159, 0)
ANONYMIZED_OPACITY = 0.45

CT_WINDOW_HU = (-160.0, 240.0)  # soft tissue: centre 40, width 400
BLACK_PERCENTILE = 1.0  # of all values, if they have no unit
WHITE_PERCENTILE = 99.5  # of the foreground's values
N_WINDOW_SAMPLES = 500_000  # enough for a percentile; a whole-body CT has 500 million voxels

MIN_BODY_SHARE = 0.25  # of the body's largest cross-section; a slice with less does not show where it lies
NEARLY_MOST = 0.9  # of the largest anonymised cross-section
SPECK_MM3 = 1000.0  # a smaller anonymised area (1 mL) does not decide which slices are shown

Scalar = TypeVar("Scalar", bound=np.generic)

PANEL_PX = 340
MARGIN_PX = 24
CAPTION_LINE_PX = 22
TEXT_RGB = (235, 235, 235)
OBLIQUE_LETTER_COSINE = 0.34  # 20 degrees; readers need no second letter for less

_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))  # towards smaller and larger x, y, z of the patient system (LPS)


@dataclass(frozen=True, slots=True)
class _View:
    """One of the three views: the axes of the display array that go down, across and into the page."""

    down: int
    across: int
    into: int


# The display array runs to the feet (0), to the back (1) and to the patient's left (2).
_AXIAL, _CORONAL, _SAGITTAL = _View(1, 2, 0), _View(0, 2, 1), _View(0, 1, 2)


def draw_overlay(
    volume: hd.Volume,
    foreground: NDArray[np.bool_],
    anonymized: NDArray[np.bool_],
    *,
    modality: str,
    caption: Sequence[str],
) -> bytes:
    """Return a PNG of an axial, a coronal and a sagittal slice, the foreground outlined, the anonymised area filled.

    Parameters
    ----------
    volume
        Source grid and its values; in Hounsfield units if ``modality`` is ``CT``.
    foreground, anonymized
        (slice, row, column) masks on the grid of ``volume``.
    caption
        Lines of text below the slices.

    Returns
    -------
    bytes
        PNG, RGB; the same input produces the same bytes.
    """
    axes, flips = display_axes(volume.affine)
    voxels = _reorder(volume.array, axes, flips)
    body, altered = _reorder(foreground, axes, flips), _reorder(anonymized, axes, flips)
    directions = _display_directions(volume.affine, axes, flips)
    is_speck = np.count_nonzero(altered) * abs(np.linalg.det(directions)) < SPECK_MM3
    chosen_by = np.zeros_like(altered) if is_speck else altered
    spacing_mm = np.linalg.norm(directions, axis=0)
    levels = window(voxels, body, modality=modality)
    width = 3 * (PANEL_PX + 2 * MARGIN_PX)
    canvas = Image.new("RGB", (width, PANEL_PX + 2 * MARGIN_PX + CAPTION_LINE_PX * (len(caption) + 1)))
    draw = ImageDraw.Draw(canvas)
    for number, view in enumerate((_AXIAL, _CORONAL, _SAGITTAL)):
        index = informative_index(body, chosen_by, view.into)
        panel = _panel(
            _plane(voxels, view, index),
            _plane(body, view, index),
            _plane(altered, view, index),
            levels=levels,
            spacing_mm=(spacing_mm[view.down], spacing_mm[view.across]),
        )
        left = MARGIN_PX + number * (PANEL_PX + 2 * MARGIN_PX) + (PANEL_PX - panel.width) // 2
        top = MARGIN_PX + (PANEL_PX - panel.height) // 2
        canvas.paste(panel, (left, top))
        _letter_sides(draw, (left, top, left + panel.width, top + panel.height), directions, view)
    _write_caption(draw, caption, top=PANEL_PX + 2 * MARGIN_PX)
    png = BytesIO()
    canvas.save(png, format="PNG", optimize=False)
    return png.getvalue()


def display_axes(affine: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return which array axes run head to feet, front to back and right to left, and which of them to reverse."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axes: list[int] = []
    flips: list[bool] = []
    for patient_axis, towards in ((2, -1.0), (1, 1.0), (0, 1.0)):  # feet is -z, back is +y, left is +x in LPS
        free = [axis for axis in range(3) if axis not in axes]
        axis = max(free, key=lambda candidate: abs(cosines[patient_axis, candidate]))
        axes.append(axis)
        flips.append(bool(cosines[patient_axis, axis] * towards < 0))
    return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2])


def window(voxels: NDArray[np.float32], foreground: NDArray[np.bool_], *, modality: str) -> tuple[float, float]:
    """Return the values that are shown as black and as white."""
    if modality == "CT":
        return CT_WINDOW_HU
    step = max(1, round((voxels.size / N_WINDOW_SAMPLES) ** (1 / 3)))
    sample = voxels[::step, ::step, ::step]
    inside = sample[foreground[::step, ::step, ::step]]
    low = _finite_percentile(sample, BLACK_PERCENTILE)
    high = _finite_percentile(inside if inside.size else sample, WHITE_PERCENTILE)
    return low, high if high > low else low + 1.0


def _finite_percentile(values: NDArray[np.float32], percentile: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percentile)) if finite.size else 0.0


def informative_index(foreground: NDArray[np.bool_], anonymized: NDArray[np.bool_], axis: int) -> int:
    """Return the slice that shows nearly the most of the anonymised area, and enough of the body to recognise it.

    Of several, return the one nearest to the middle of the foreground. Without anonymised area, or if it lies outside
    the body only, return that middle, or the middle of the array.
    """
    others = tuple(other for other in range(3) if other != axis)
    body = np.count_nonzero(foreground, axis=others)
    altered = np.count_nonzero(anonymized, axis=others)
    if body.any():
        altered[body < MIN_BODY_SHARE * body.max()] = 0
    inside = np.flatnonzero(body)
    middle = int(inside[inside.size // 2]) if inside.size else foreground.shape[axis] // 2
    if not altered.any():
        return middle
    candidates = np.flatnonzero(altered >= NEARLY_MOST * altered.max())
    return int(candidates[np.abs(candidates - middle).argmin()])


def _reorder(array: NDArray[Scalar], axes: Sequence[int], flips: Sequence[bool]) -> NDArray[Scalar]:
    """Return the array as a view in display order."""
    return array.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _display_directions(affine: NDArray[np.float64], axes: Sequence[int], flips: Sequence[bool]) -> NDArray[np.float64]:
    """Return the step of each display axis in LPS mm, one per column."""
    return np.stack(
        [affine[:3, axis] * (-1.0 if flip else 1.0) for axis, flip in zip(axes, flips, strict=True)], axis=1
    )


def _plane(array: NDArray[Scalar], view: _View, index: int) -> NDArray[Scalar]:
    # The remaining axes are in (down, across) order, because every view's axes ascend.
    return array[tuple(index if axis == view.into else slice(None) for axis in range(3))]


def _panel(
    grey: NDArray[np.float32],
    contour: NDArray[np.bool_],
    fill: NDArray[np.bool_],
    *,
    levels: tuple[float, float],
    spacing_mm: tuple[float, float],
) -> Image.Image:
    """Return one slice with square pixels, at most ``PANEL_PX`` high and wide."""
    height_mm, width_mm = grey.shape[0] * spacing_mm[0], grey.shape[1] * spacing_mm[1]
    scale = PANEL_PX / max(height_mm, width_mm)
    size = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    low, high = levels
    shown = np.clip((np.nan_to_num(grey, nan=low).astype(np.float32) - low) / (high - low), 0.0, 1.0)
    pixels = np.repeat(_resized(shown, size)[..., None] * 255.0, 3, axis=-1)
    altered = _resized(fill.astype(np.float32), size) >= 0.5
    pixels[altered] += ANONYMIZED_OPACITY * (np.array(ANONYMIZED_RGB) - pixels[altered])
    pixels[_outline(altered)] = ANONYMIZED_RGB
    pixels[_outline(_resized(contour.astype(np.float32), size) >= 0.5)] = FOREGROUND_RGB
    return Image.fromarray(pixels.round().astype(np.uint8))


def _resized(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of the mask with a neighbour outside it; beyond the picture's edge counts as outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _letter_sides(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], directions: NDArray[np.float64], view: _View
) -> None:
    """Draw the patient directions at the four sides of a panel."""
    left, top, right, bottom = box
    across, down = directions[:, view.across], directions[:, view.down]
    font = ImageFont.load_default(15)
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    gap = 3
    draw.text((left - gap, middle_y), direction_letters(-across), TEXT_RGB, font, anchor="rm")
    draw.text((right + gap, middle_y), direction_letters(across), TEXT_RGB, font, anchor="lm")
    draw.text((middle_x, top - gap), direction_letters(-down), TEXT_RGB, font, anchor="mb")
    draw.text((middle_x, bottom + gap), direction_letters(down), TEXT_RGB, font, anchor="mt")


def direction_letters(direction: NDArray[np.float64]) -> str:
    """Return the patient letters of a direction in LPS, the strongest first (PS3.3 C.7.6.1.1.1)."""
    cosines = direction / np.linalg.norm(direction)
    order = sorted(range(3), key=lambda axis: -abs(cosines[axis]))
    return "".join(
        _LETTERS[axis][int(cosines[axis] > 0)]
        for place, axis in enumerate(order)
        if place == 0 or abs(cosines[axis]) >= OBLIQUE_LETTER_COSINE
    )


def _write_caption(draw: ImageDraw.ImageDraw, caption: Sequence[str], *, top: int) -> None:
    font = ImageFont.load_default(15)
    for number, line in enumerate(caption):
        draw.text((MARGIN_PX, top + number * CAPTION_LINE_PX), line, TEXT_RGB, font)
    y = top + len(caption) * CAPTION_LINE_PX + 8
    draw.line((MARGIN_PX, y, MARGIN_PX + 22, y), FOREGROUND_RGB, width=3)
    draw.text((MARGIN_PX + 30, y), "foreground (contour)", FOREGROUND_RGB, font, anchor="lm")
    second = MARGIN_PX + 220
    draw.rectangle((second, y - 6, second + 22, y + 6), ANONYMIZED_RGB)
    draw.text((second + 30, y), "anonymised area (filled)", ANONYMIZED_RGB, font, anchor="lm")

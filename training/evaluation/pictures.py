"""Draw cases: planes through the middle with outlines of truth and result; pictures are (row, column, RGB) uint8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from training.evaluation.cases import Case
from training.evaluation.measure import Measured, segment_case

Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]
PIXEL_MM = 1.0
BODY, FOUND, TRUTH = (80, 220, 90), (255, 70, 60), (70, 150, 255)
CAPTION_HEIGHT = 14


def foreground_picture(case: Case, models: Measured, caption: str) -> Picture:
    """Draw three planes with the true body in blue and the found one in green."""
    found = segment_case(case, models)[-1].foreground
    truth = np.zeros_like(found) if case.body is None else case.body
    return captioned(three_planes(case, [(truth, TRUTH), (found, BODY)]), caption)


def area_picture(case: Case, models: Measured, caption: str) -> Picture:
    """Draw three planes with the changed voxels in the head in blue and the found area in red."""
    found = segment_case(case, models)[-1].anonymized
    truth = np.zeros_like(found)
    if case.changed is not None and case.intact_body is not None:
        truth = case.changed & case.intact_body
    return captioned(three_planes(case, [(truth, TRUTH), (found, FOUND)]), caption)


def three_planes(case: Case, masks: Sequence[tuple[Mask, tuple[int, int, int]]]) -> Picture:
    """Draw sagittal, coronal and axial planes with square pixels, head at the top, front at the left or the top."""
    planes = []
    for axis in (2, 1, 0):
        index: list[int | slice] = [slice(None)] * 3
        index[axis] = case.voxels.shape[axis] // 2
        steps = [step for other, step in enumerate(case.spacing_mm) if other != axis]
        flip = slice(None, None, -1) if axis else slice(None)
        plane = tuple(index)
        outlines = [(mask[plane][flip], colour) for mask, colour in masks]
        planes.append(outlined(case.voxels[plane][flip], outlines, (steps[0], steps[1])))
    return tile_pictures(planes, per_row=3)


def outlined(
    gray: NDArray[np.float32], masks: Sequence[tuple[Mask, tuple[int, int, int]]], spacing_mm: tuple[float, float]
) -> Picture:
    """Draw a plane (row, column) in square pixels of ``PIXEL_MM`` with the outlines of masks."""
    low, high = np.percentile(gray, [1.0, 99.5])
    scaled = np.clip((gray - low) / max(float(high - low), 1e-6), 0, 1)
    zoom = [step / PIXEL_MM for step in spacing_mm]
    large = ndimage.zoom(scaled, zoom, order=1, mode="nearest", grid_mode=True)
    picture = np.repeat((255 * large).astype(np.uint8)[..., None], 3, axis=-1)
    for mask, colour in masks:
        grown = ndimage.zoom(mask.astype(np.uint8), zoom, order=0, mode="nearest", grid_mode=True).astype(bool)
        picture[grown & ~ndimage.binary_erosion(grown)] = colour
    return picture


def captioned(picture: Picture, text: str) -> Picture:
    """Return the picture with a line of text above it."""
    strip = Image.new("RGB", (picture.shape[1], CAPTION_HEIGHT))
    ImageDraw.Draw(strip).text((3, 1), text, fill=(235, 235, 235))
    return np.concatenate([np.asarray(strip), picture])


def tile_pictures(pictures: Sequence[Picture], *, per_row: int) -> Picture:
    """Arrange pictures in rows; each row is as high as its highest picture."""
    rows = []
    for start in range(0, len(pictures), per_row):
        row = pictures[start : start + per_row]
        height = max(picture.shape[0] for picture in row)
        padded = [np.pad(picture, [(0, height - picture.shape[0]), (0, 2), (0, 0)]) for picture in row]
        rows.append(np.concatenate(padded, axis=1))
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, [(0, 2), (0, width - row.shape[1]), (0, 0)]) for row in rows])

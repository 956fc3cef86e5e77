"""Measure head and face in the masks, relative to the vertex and the forehead.

No defacing tool changes vertex and forehead, so they tell where the face must be: in a window below the brow, as wide
as a face. From the front, each line of sight through this window meets either skin or anonymised area first.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from inference.refine.grids import CoarseGrid, Mask, Spacing, coarse_grid

FACTS_MM = 4.0  # facts are measured on blocks of at most this size
AREA_SHARE = 0.3  # of a block, from which it counts as anonymised; thin shells fill no block by half
VERTEX_CM2 = 4.0  # the uppermost plane with this much body is the vertex
# Distances in adult heads, measured in the label maps: brow 85 mm below the vertex, chin 200 to 220 mm.
BROW_MM, CHIN_MM = 85.0, 200.0
FOREHEAD_MM = 40.0  # the forehead is searched between this distance below the vertex and the brow
HALF_WIDTH_MM = 50.0  # of the window
MIDDLE_MM, MIDDLE_BELOW_BROW_MM = 20.0, (20.0, 90.0)  # nose and mouth: half their width, their upper and lower end
NO_SKIN_MM = 60.0  # recess if there is no skin at all
BEFORE_MM, BEHIND_MM = 25.0, 60.0  # the nose is in front of the forehead, the cheeks of a flat face are behind it


@dataclass(frozen=True, slots=True)
class SegmentationFacts:
    """Measurements on which the verdict is based.

    Attributes
    ----------
    foreground_ml, anonymized_ml
        Volume of each mask.
    height_mm
        From the vertex to the lower end of the body.
    upper_ml, upper_width_mm
        Volume and width of the body between vertex and brow.
    top_cut_cm2
        Area of body in the topmost plane of the volume; if it is above zero, the vertex is not in view.
    window_share
        Share of the lines of sight through the whole window, from brow to chin, that meet body or anonymised area. It
        is low if the field of view ends above the mouth, or if only a brain is left.
    front_cut_share
        Share of the lines of sight that begin inside the body, because the field of view cuts off the face.
    coverage
        Share of the lines of sight that meet anonymised area before skin.
    face_ml
        Volume of anonymised area in the window.
    recess_mm
        How far the skin of nose and mouth lies behind the forehead; negative if it is in front, as in every intact
        face. Anonymised area in front of an intact face is air or a thin shell.
    """

    foreground_ml: float
    anonymized_ml: float
    height_mm: float
    upper_ml: float = 0.0
    upper_width_mm: float = 0.0
    top_cut_cm2: float = 0.0
    window_share: float = 0.0
    front_cut_share: float = 0.0
    coverage: float = 0.0
    face_ml: float = 0.0
    recess_mm: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return all values by name, rounded to three decimals."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def gather_facts(foreground: Mask, anonymized: Mask, spacing_mm: Spacing) -> SegmentationFacts:
    """Measure the masks of one volume.

    Parameters
    ----------
    foreground, anonymized
        (slice, row, column) with axes towards head, posterior and left.
    spacing_mm
        Along the same axes.
    """
    voxel_ml = math.prod(spacing_mm) / 1000.0
    foreground_ml = float(np.count_nonzero(foreground)) * voxel_ml
    anonymized_ml = float(np.count_nonzero(anonymized)) * voxel_ml
    grid = coarse_grid(foreground.shape, spacing_mm, coarse_mm=FACTS_MM)
    body = grid.reduce(foreground & ~anonymized) > 0.5  # a bright fill may look like body
    planes = np.flatnonzero(body.any(axis=(1, 2)))
    if not planes.size:
        return SegmentationFacts(foreground_ml, anonymized_ml, 0.0)
    step_mm = grid.spacing_mm[0]
    top = _vertex(body, grid)
    brow = max(0, top - math.ceil(BROW_MM / step_mm))
    upper = body[brow : top + 1]
    columns = np.flatnonzero(upper.any(axis=(0, 1)))
    block_ml = math.prod(grid.spacing_mm) / 1000.0
    window = _window(body, grid.reduce(anonymized) > AREA_SHARE, grid, top, brow)
    return SegmentationFacts(
        foreground_ml=foreground_ml,
        anonymized_ml=anonymized_ml,
        height_mm=float(top - planes[0] + 1) * step_mm,
        upper_ml=float(np.count_nonzero(upper)) * block_ml,
        upper_width_mm=float(columns[-1] - columns[0] + 1) * grid.spacing_mm[2] if columns.size else 0.0,
        top_cut_cm2=float(np.count_nonzero(body[-1])) * grid.spacing_mm[1] * grid.spacing_mm[2] / 100.0,
        **window,
    )


def _vertex(body: Mask, grid: CoarseGrid) -> int:
    """Return the index of the uppermost plane with enough body or, if there is none, with any."""
    areas_cm2 = body.sum(axis=(1, 2)) * grid.spacing_mm[1] * grid.spacing_mm[2] / 100.0
    large = np.flatnonzero(areas_cm2 >= VERTEX_CM2)
    return int(large[-1] if large.size else np.flatnonzero(areas_cm2)[-1])


def _window(body: Mask, area: Mask, grid: CoarseGrid, top: int, brow: int) -> dict[str, float]:
    """Return the facts measured in the window of the face; empty if it cannot be located."""
    slice_mm, row_mm, column_mm = grid.spacing_mm
    upper = body[brow : top + 1]
    middle = float(np.nonzero(upper)[2].mean()) if upper.any() else body.shape[2] / 2
    low = max(0, top - round(CHIN_MM / slice_mm))
    half = HALF_WIDTH_MM / column_mm
    sides = slice(max(0, round(middle) - round(half)), round(middle) + round(half) + 1)
    forehead = body[brow : max(brow + 1, top - round(FOREHEAD_MM / slice_mm)), :, sides].any(axis=(0, 2))
    if not forehead.any() or low >= brow:
        return {}
    front = int(np.flatnonzero(forehead)[0])
    rows = slice(max(0, front - round(BEFORE_MM / row_mm)), front + round(BEHIND_MM / row_mm) + 1)
    skin, cut = body[low:brow, rows, sides], area[low:brow, rows, sides]
    first_skin, first_cut = _first_row(skin), _first_row(cut)
    is_met = np.minimum(first_skin, first_cut) < skin.shape[1]
    n_met = int(np.count_nonzero(is_met))
    if not n_met:
        return {}
    n_lines = round((CHIN_MM - BROW_MM) / slice_mm) * (2 * round(half) + 1)
    starts_inside = (first_skin == 0) & (rows.start == 0)
    return {
        "window_share": min(1.0, n_met / n_lines),
        "coverage": float(np.count_nonzero(is_met & (first_cut < first_skin))) / n_met,
        "front_cut_share": float(np.count_nonzero(starts_inside)) / n_met,
        "face_ml": float(np.count_nonzero(cut)) * math.prod(grid.spacing_mm) / 1000.0,
        "recess_mm": _recess_mm(body, grid, brow, middle, front),
    }


def _recess_mm(body: Mask, grid: CoarseGrid, brow: int, middle: float, front: int) -> float:
    """Return the median distance over nose and mouth of the skin behind the forehead's front."""
    slice_mm, row_mm, column_mm = grid.spacing_mm
    upper, lower = (max(0, brow - round(below / slice_mm)) for below in MIDDLE_BELOW_BROW_MM)
    half = max(1, round(MIDDLE_MM / column_mm))
    part = body[lower:upper, :, max(0, round(middle) - half) : round(middle) + half + 1]
    if not part.size:
        return 0.0
    first = _first_row(part)
    behind = np.where(first < part.shape[1], (first - front) * row_mm, NO_SKIN_MM)
    return float(min(np.median(behind), NO_SKIN_MM))


def _first_row(mask: Mask) -> NDArray[np.int64]:
    """Return (slice, column) rows in which each line of sight meets the mask; the number of rows if it does not."""
    return np.asarray(np.where(mask.any(axis=1), mask.argmax(axis=1), mask.shape[1]))

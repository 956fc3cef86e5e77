"""Let the judge draw the edge of an area where no stored value shows it, and what the rules missed of one.

Parts that it is sure of are proposals like those of the 3 mm network, and stay where no rule confirms them. Of what
else it finds, it is asked only how far an area reaches that the rules found, for it paints some air: where a tool wrote
one value, equal values stay exact and the judge adds what lies farther away (0090); where no value repeats, its edge is
better than that of the statistics (0093), as long as both mean the same area and tissue was removed; what the rules
found outside the body stays, for the judge is not trained in the air of a cut. What was smoothed or exchanged is drawn
by ``altered_face``. Measured on ``val`` in docs/models/judge.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.refine.anonymized import RefinedArea
from inference.refine.grids import (
    SIX_NEIGHBOURS,
    DecidedBy,
    Mask,
    Spacing,
    chosen_parts,
    neighbour_count,
    part_sizes,
    parts_touching,
)

LEAST_ML = 0.5  # smaller parts are no evidence
LARGE_ML = 275.0  # no tissue that was mistaken for a fill of noise was that large
EDGE_VOXELS = 2  # from a constant fill: the judge's edge may be wrong by so much
SAME_FROM = 0.5  # Dice of both areas and ratio of their volumes, from which they are the same one


@dataclass(frozen=True, slots=True, eq=False)
class JudgedArea:
    """What the judge found, as masks (slice, row, column) on the source grid.

    Attributes
    ----------
    removed
        Filled by a tool, so that nothing of the body is left.
    altered
        Smoothed or replaced, and still body.
    surely
        Changed with a high probability in one way or the other.
    believed
        The parts of ``removed`` that count without other evidence.
    window
        The part of the grid that it looked at.
    """

    removed: Mask
    altered: Mask
    surely: Mask
    believed: Mask
    window: tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnArea:
    """An area after the judge was asked.

    Attributes
    ----------
    filled
        The part of ``whole`` that is no body any more, and what shows it.
    whole
        (slice, row, column) the anonymised area.
    """

    filled: RefinedArea
    whole: Mask


def draw_with_judge(found: DrawnArea, judged: JudgedArea, body: Mask, spacing_mm: Spacing) -> DrawnArea:
    """Return the area of the rules with the judge's edge, or with the judge's parts beyond an exact one.

    Parameters
    ----------
    found, judged
        What the rules and the judge found, in one shape (slice, row, column).
    body
        What is left of the body, as the other network sees it, in the same shape.
    spacing_mm
        Along the same axes.
    """
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    least_voxels = max(LEAST_ML / voxel_ml, 1.0)
    if np.count_nonzero(found.whole) < least_voxels:
        return _with_believed(found, judged)
    if found.filled.fill_value is not None:
        return _with_parts_beyond(found, judged, least_voxels)
    found = _without_unseen_noise(found, judged, least_voxels, LARGE_ML / voxel_ml)
    drawn = _large_parts(judged.removed | judged.altered, least_voxels)
    removed = drawn & ~judged.altered
    if not _are_the_same(drawn, found.whole) or 2 * np.count_nonzero(removed) < np.count_nonzero(drawn):
        return _with_believed(found, judged)
    removed |= found.filled.mask & ~body
    return DrawnArea(RefinedArea(removed, removed, DecidedBy.JUDGE), drawn | found.whole & ~body)


def _with_parts_beyond(found: DrawnArea, judged: JudgedArea, least_voxels: float) -> DrawnArea:
    """Return an exact area and the sure parts outside it that are more than a wrong edge around it."""
    near = found.whole
    for _ in range(EDGE_VOXELS):
        near = neighbour_count(near) > 0
    rest = judged.surely & judged.believed & ~found.whole
    far = _large_parts(rest & ~near, least_voxels)
    beyond, exact = parts_touching(rest, far), found.filled
    filled = RefinedArea(exact.mask | beyond, exact.shown | beyond, exact.decided_by, exact.fill_value)
    return DrawnArea(filled, found.whole | beyond)


def _without_unseen_noise(found: DrawnArea, judged: JudgedArea, least_voxels: float, large_voxels: float) -> DrawnArea:
    """Return an area without those parts that only statistics of values show, and in which the judge sees no change.

    Dark tissue in a noisy scan looks like a fill of noise to the statistics. Large parts are kept, and so are parts
    where the judge did not look.
    """
    labelled, n_parts = ndimage.label(found.filled.mask, SIX_NEIGHBOURS)
    n_seen = part_sizes(np.where(judged.removed | judged.altered, labelled, 0), n_parts)
    n_looked_at = part_sizes(labelled[judged.window], n_parts)
    sizes = part_sizes(labelled, n_parts)
    is_unseen = (sizes < large_voxels) & (n_seen < least_voxels) & (2 * n_looked_at > sizes)
    is_unseen[0] = False
    if not is_unseen.any():
        return found
    dropped = chosen_parts(labelled, is_unseen)
    exact = found.filled
    return DrawnArea(
        RefinedArea(exact.mask & ~dropped, exact.shown & ~dropped, exact.decided_by), found.whole & ~dropped
    )


def _with_believed(found: DrawnArea, judged: JudgedArea) -> DrawnArea:
    """Return an area with the parts that the judge is sure of."""
    if not (judged.believed & ~found.whole).any():
        return found
    exact = found.filled
    filled = RefinedArea(exact.mask | judged.believed, exact.shown | judged.believed, DecidedBy.JUDGE)
    return DrawnArea(filled, found.whole | judged.believed)


def _are_the_same(drawn: Mask, whole: Mask) -> bool:
    """Whether two areas overlap well, and the judge's is not much the smaller one: it then missed a part."""
    n_drawn, n_whole, n_both = (int(np.count_nonzero(mask)) for mask in (drawn, whole, drawn & whole))
    return 2 * n_both > SAME_FROM * (n_drawn + n_whole) and n_drawn > SAME_FROM * n_whole


def _large_parts(mask: Mask, least_voxels: float) -> Mask:
    labelled, n_parts = ndimage.label(mask, SIX_NEIGHBOURS)
    is_kept = part_sizes(labelled, n_parts) >= least_voxels
    is_kept[0] = False
    return chosen_parts(labelled, is_kept)

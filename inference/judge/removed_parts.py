"""Believe the judge where it finds a whole part of the head removed, with a high probability.

What it paints falsely on untouched heads of ``val`` has a lower mean probability in parts of this size
(docs/models/judge.md).
"""

from __future__ import annotations

from scipy import ndimage

from inference.refine.grids import SIX_NEIGHBOURS, Field, Mask, chosen_parts, part_sizes, part_sums

PART_ML, PART_PROBABILITY = 5.0, 0.92  # of a part: its volume, and the mean probability of a change in it


def believed_parts(removed: Mask, changed: Field, voxel_ml: float) -> Mask:
    """Return the connected parts that are large and sure enough to be believed without any other evidence.

    Parameters
    ----------
    removed
        (slice, row, column) what looks removed.
    changed
        The probability of a change, in the same shape.
    voxel_ml
        Volume of a voxel.
    """
    labelled, n_parts = ndimage.label(removed, SIX_NEIGHBOURS)
    sizes_ml = part_sizes(labelled, n_parts) * voxel_ml
    sums_ml = part_sums(labelled, n_parts, changed) * voxel_ml
    is_believed = (sizes_ml >= PART_ML) & (sums_ml >= PART_PROBABILITY * sizes_ml)
    is_believed[0] = False
    return chosen_parts(labelled, is_believed)

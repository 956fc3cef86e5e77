"""Believe the judge where it finds a whole face smoothed or exchanged, and not where it finds less.

Small or doubtful findings of this kind are signal voids, faded necks and ghosts; findings in many places show that the
whole scan is smooth, for a tool alters one face. The limits lie between what was measured on altered and on untouched
heads of ``val`` (docs/models/judge.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.judge.judge import SURELY_FROM, Judgement
from inference.refine.grids import SIX_NEIGHBOURS, Mask, Spacing, chosen_parts, part_sizes

FACE_ML, FACE_PROBABILITY = 130.0, 0.9  # of the largest part: its volume, and the mean probability in it
FACE_SHARE = 0.92  # of all altered tissue, that the largest part holds at least
SURE_ML, SURE_PROBABILITY, SURE_SHARE = 150.0, 0.925, 0.98  # the same, for a verdict
LEAST_ML = 0.5  # smaller parts are no evidence
# Skin in front of altered tissue is altered too: a tool exchanges or smooths a face from its surface. The nose and the
# lips of another face are dark and thin, and the judge is least sure of these.
FRONT_MM = 12.0


@dataclass(frozen=True, slots=True, eq=False)
class AlteredFace:
    """The smoothed and replaced tissue of an altered face, and the evidence for it.

    Attributes
    ----------
    mask
        (slice, row, column) in the volume that was judged; empty unless the evidence is that of a face.
    volume_ml, probability, share
        Of the largest part that looks altered: its volume, its mean probability, and its share of all such tissue; 0 if
        there is none.
    """

    mask: Mask
    volume_ml: float
    probability: float
    share: float

    @property
    def is_sure(self) -> bool:
        """Whether the evidence is enough for the verdict that the face is gone."""
        return self.volume_ml >= SURE_ML and self.probability >= SURE_PROBABILITY and self.share >= SURE_SHARE


def altered_face(judgement: Judgement, body: Mask, spacing_mm: Spacing) -> AlteredFace:
    """Look for an altered face: one part with its size, a high probability, and nearly all tissue that looks altered.

    Parameters
    ----------
    body
        (slice, row, column) in the shape of the volume that was judged, rows from the front to the back.
    spacing_mm
        Along the same axes.
    """
    altered = judgement.probabilities[2:].sum(0)
    is_altered = (judgement.changed > SURELY_FROM) & (altered > judgement.probabilities[1])
    labelled, n_parts = ndimage.label(is_altered, SIX_NEIGHBOURS)
    sizes_ml = part_sizes(labelled, n_parts) * float(np.prod(spacing_mm)) / 1000.0
    sizes_ml[0] = 0.0
    mask, largest = np.zeros(body.shape, bool), int(sizes_ml.argmax())
    if not sizes_ml[largest]:
        return AlteredFace(mask, 0.0, 0.0, 0.0)
    probability, share = float(altered[labelled == largest].mean()), float(sizes_ml[largest] / sizes_ml.sum())
    if sizes_ml[largest] >= FACE_ML and probability >= FACE_PROBABILITY and share >= FACE_SHARE:
        mask[judgement.window] = chosen_parts(labelled, sizes_ml >= LEAST_ML)
        mask |= body & _in_front(mask, round(FRONT_MM / spacing_mm[1]))
    return AlteredFace(mask, float(sizes_ml[largest]), probability, share)


def _in_front(mask: Mask, n_rows: int) -> Mask:
    """Return the voxels with one of the mask at most ``n_rows`` behind them."""
    found = np.zeros(mask.shape, bool)
    for step in range(1, min(n_rows, mask.shape[1] - 1) + 1):
        found[:, :-step] |= mask[:, step:]
    return found

"""Ask the judge of a model about a volume, and doubt a verdict that rests on its answer alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.judge.altered_face import altered_face
from inference.judge.context import probabilities
from inference.judge.judge import judge_volume
from inference.models import JudgeScope
from inference.refine.grids import Mask, Spacing
from inference.refine.judged import JudgedArea
from inference.verdict.verdict import SeriesVerdict, Verdict, decide_verdict, gather_facts, is_area_without_face


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The judge's answer in the orientation of the refinement (towards head, posterior and left).

    Attributes
    ----------
    area
        All that looks changed, for a judge that draws outlines; else None.
    altered
        (slice, row, column) a smoothed or replaced face; None if the judge was not asked.
    is_sure
        Whether a verdict may rest on ``altered``.
    """

    area: JudgedArea | None = None
    altered: Mask | None = None
    is_sure: bool = False


def ask_judge(
    voxels: NDArray[np.float32],
    spacing_mm: Spacing,
    body: Mask,
    area: Mask,
    outputs: Sequence[torch.Tensor],
    judge: nn.Module,
    scope: JudgeScope,
) -> Judged:
    """Return what the judge finds; nothing, without asking it, where no face is in view.

    Parameters
    ----------
    voxels, body, area
        (slice, row, column) in the orientation of the refinement, CT padding raised to air; ``body`` and ``area`` are
        those of the 3 mm networks.
    spacing_mm
        Along the same axes.
    outputs
        Logits (label, slice, row, column) of the 3 mm network, in parts along the first spatial axis.
    """
    facts = gather_facts(body, area, spacing_mm)
    verdict = decide_verdict(facts)
    has_face = verdict.verdict is not SeriesVerdict.NOT_APPLICABLE
    draws = scope is JudgeScope.OUTLINE and (has_face or (area.any() and not is_area_without_face(verdict, facts)))
    if not has_face and not draws:
        return Judged()
    context = probabilities(torch.cat(list(outputs), 1).float().cpu().numpy())
    judgement = judge_volume(voxels, spacing_mm, body, context, judge)
    drawn = judgement.area(voxels.shape, spacing_mm) if draws else None
    if not has_face:
        return Judged(drawn)
    face = altered_face(judgement, body, spacing_mm)
    return Judged(drawn, face.mask, face.is_sure)


def doubted_if_unconfirmed(verdict: Verdict, without: Verdict, unconfirmed_ml: float) -> Verdict:
    """Return ``indeterminate`` instead of ``defaced`` if stored values alone do not show that the face is gone.

    Parameters
    ----------
    verdict, without
        With and without the tissue that only the judge found altered and is not sure of.
    unconfirmed_ml
        Volume of that tissue.
    """
    if verdict.verdict is not SeriesVerdict.DEFACED or without.verdict is SeriesVerdict.DEFACED:
        return verdict
    reason = f"{unconfirmed_ml:.0f} mL look removed or altered to a network, but no stored value confirms it"
    return Verdict(SeriesVerdict.INDETERMINATE, verdict.probability, (reason, *verdict.reasons))

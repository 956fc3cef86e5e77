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
    """The judge's answer in the orientation of the refinement (towards head, posterior and left); one is None.

    Attributes
    ----------
    area
        The whole anonymised area, for a judge that decides on all of it.
    altered
        (slice, row, column) a smoothed or replaced face, for a judge that decides on nothing else.
    """

    area: JudgedArea | None = None
    altered: Mask | None = None


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
    if not _may_answer(body, area, spacing_mm, scope):
        return Judged()
    context = probabilities(torch.cat(list(outputs), 1).float().cpu().numpy())
    judgement = judge_volume(voxels, spacing_mm, body, context, judge)
    if scope is JudgeScope.ALL:
        return Judged(area=judgement.area(voxels.shape))
    return Judged(altered=altered_face(judgement, voxels.shape, spacing_mm))


def _may_answer(body: Mask, area: Mask, spacing_mm: Spacing, scope: JudgeScope) -> bool:
    facts = gather_facts(body, area, spacing_mm)
    verdict = decide_verdict(facts)
    if scope is JudgeScope.ALL:
        return not is_area_without_face(verdict, facts)
    return verdict.verdict is not SeriesVerdict.NOT_APPLICABLE


def doubted_if_unconfirmed(verdict: Verdict, without: Verdict, unconfirmed_ml: float) -> Verdict:
    """Return ``indeterminate`` instead of ``defaced`` if stored values alone do not show that the face is gone.

    Parameters
    ----------
    verdict, without
        With and without the tissue that only the judge found altered.
    unconfirmed_ml
        Volume of that tissue.
    """
    if verdict.verdict is not SeriesVerdict.DEFACED or without.verdict is SeriesVerdict.DEFACED:
        return verdict
    reason = f"{unconfirmed_ml:.0f} mL look smoothed or exchanged to a network, but no stored value confirms it"
    return Verdict(SeriesVerdict.INDETERMINATE, verdict.probability, (reason, *verdict.reasons))

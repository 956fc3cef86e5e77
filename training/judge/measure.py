"""Measure the judge on ``val``: ``python -m training.judge.measure --data DATA --cohort COHORT --work WORK``.

The cases are those of ``training.evaluate``, stored in ``WORK/val`` with the results of the pipeline without the judge.
Rows are written to ``WORK/val-STEPS.jsonl``, with ``--shipped`` to ``WORK/val-shipped-STEPS.jsonl``. The printed table
shows, for each condition, Dice in the head and the volume of false positives: without the judge (today), of the judge
alone, of today's area with the altered face that the judge found, and of what the node writes, in which the judge draws
outlines too.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from inference.judge.altered_face import altered_face
from inference.judge.judge import judge_volume
from inference.refine.masks import refine_masks
from training.cohort import load_cohort
from training.evaluation.measure import dice, load_measured
from training.evaluation.tables import group, table
from training.judge.loop import Settings, resume
from training.judge.val_cases import KeptCase, keep_cases, kept_cases

COLUMNS = ("today", "judge", "with face", "with outline")
DICE = ("dice_today", "dice_judge", "dice_with_face", "dice_with_outline")
FALSE = ("false_today_ml", "false_ml", "false_with_face_ml", "false_with_outline_ml")


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """One case with and without the judge.

    Attributes
    ----------
    dice_today, dice_judge, dice_with_face, dice_with_outline
        In the head; None if nothing was changed. *With face* is today's area with the altered face that the judge
        found, as the node writes it for a model with ``judge: altered``; *with outline* is the same for ``outline``.
    false_today_ml, false_ml, false_with_face_ml, false_with_outline_ml
        Volume of the area outside the voxels that the tool overwrote.
    face_ml, face_probability, face_share
        The evidence for an altered face (``inference.judge.altered_face.AlteredFace``).
    """

    case: str
    modality: str
    condition: str
    dice_today: float | None
    dice_judge: float | None
    dice_with_face: float | None
    dice_with_outline: float | None
    false_today_ml: float
    false_ml: float
    false_with_face_ml: float
    false_with_outline_ml: float
    face_ml: float
    face_probability: float
    face_share: float


def measure_case(case: KeptCase, network: nn.Module) -> JudgeRow:
    """Compare the judge's result and that of the pipeline with and without it with the truth."""
    judgement = judge_volume(case.voxels, case.spacing_mm, case.body, case.context, network)
    area = judgement.area(case.voxels.shape, case.spacing_mm)
    face = altered_face(judgement, case.body, case.spacing_mm)
    refined = refine_masks(
        case.voxels,
        case.body,
        case.network,
        case.spacing_mm,
        foreground=False,
        anonymized=True,
        is_ct=case.is_ct,
        judged=area,
        judged_altered=face.mask,
    )
    masks = (case.today, area.removed | area.altered, case.today | face.mask, refined.anonymized)
    voxel_ml = float(np.prod(case.spacing_mm)) / 1000
    truth = np.zeros(case.voxels.shape, bool) if case.truth is None else case.truth
    scores: list[float | None] = [None] * len(masks)
    if case.intact_body is not None:
        scores = [dice(mask & case.intact_body, truth & case.intact_body) for mask in masks]
    false_ml = [round(float(np.count_nonzero(mask & ~truth)) * voxel_ml, 2) for mask in masks]
    evidence = (round(face.volume_ml, 1), round(face.probability, 3), round(face.share, 3))
    return JudgeRow(*case.key, *scores, *false_ml, *evidence)


def tables(rows: Sequence[JudgeRow]) -> str:
    """Return Markdown tables: mean and worst Dice by tool, median and worst false area by condition."""
    tools, untouched = [], []
    for name, chosen in group(rows, lambda row: f"{row.condition}, {row.modality}"):
        if chosen[0].dice_today is None:
            untouched.append([name, str(len(chosen)), *_two(chosen, np.median, max, *FALSE)])
        else:
            tools.append([name, str(len(chosen)), *_two(chosen, np.mean, min, *DICE)])
            tools[-1] += _two(chosen, np.median, max, "false_with_outline_ml")
    first = table(["tool", "n", *COLUMNS, "with outline outside, mL"], tools)
    second = table(["untouched", "n", *(f"{name}, mL" for name in COLUMNS)], untouched)
    return f"{first}\n\n{second}"


def _two(
    rows: Sequence[JudgeRow],
    middle: Callable[[list[float]], float],
    worst: Callable[[list[float]], float],
    *names: str,
) -> list[str]:
    """Return one cell per column with two statistics."""
    cells = []
    for name in names:
        values = [float(asdict(row)[name]) for row in rows]
        digits = 3 if name.startswith("dice") else 1
        cells.append(f"{middle(values):.{digits}f} / {worst(values):.{digits}f}")
    return cells


def main() -> None:
    """Parse the command line, store cases, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("inference/reference"))
    parser.add_argument(
        "--weights", type=Path, default=Path("training/judge/weights"), help="measured where there is no checkpoint"
    )
    parser.add_argument("--only-kept", action="store_true", help="measure only cases that are already stored")
    parser.add_argument("--shipped", action="store_true", help="measure the judge of --models, not the checkpoint's")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    if not arguments.only_kept:
        cohort = load_cohort(arguments.data, arguments.cohort, frozenset({"val"}))
        keep_cases(cohort, load_measured(arguments.models), arguments.work / "val")
    network, name, described = judge_to_measure(
        arguments.work, arguments.weights, arguments.models, is_shipped=arguments.shipped
    )
    rows = []
    with (arguments.work / f"val-{name}.jsonl").open("w", encoding="utf-8") as lines:
        for case in kept_cases(arguments.work / "val"):
            rows.append(measure_case(case, network))
            lines.write(json.dumps(asdict(rows[-1])) + "\n")
            lines.flush()
    print(f"{described}\n\n{tables(rows)}")


def judge_to_measure(work: Path, weights: Path, models: Path, *, is_shipped: bool) -> tuple[nn.Module, str, str]:
    """Return the judge of the reference model, or of the checkpoint or exported weights; its rows' name; what it is."""
    if is_shipped:
        judge = load_measured(models).judge
        if judge is None:
            raise SystemExit(f"{models / 'anonymized'} has no judge; leave --shipped out")
        steps = json.loads((models / "anonymized" / "judge" / "judge.json").read_text("utf-8"))["steps"]
        return judge, f"shipped-{steps}", f"the judge in {models}, {steps} steps"
    learner = resume(work, Settings(), weights)
    if learner.steps == 0:
        raise SystemExit(f"neither {work} has a checkpoint nor {weights} exported weights; train first, or --shipped")
    network = learner.average.eval().to(memory_format=torch.channels_last_3d)
    return network, str(learner.steps), f"{learner.steps} steps, {learner.core_s / 3600:.2f} core-hours of training"


if __name__ == "__main__":
    main()

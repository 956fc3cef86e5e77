"""Measure the judge on ``val``: ``python -m training.judge.measure --data DATA --cohort COHORT --work WORK``.

The cases are those of ``training.evaluate``, stored in ``WORK/val`` with the results of the pipeline without the judge.
Rows are written to ``WORK/val-STEPS.jsonl``. The printed table shows, for each condition, Dice in the head without and
with the judge, and the volume of false positives.
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

from inference.judge.judge import judge_volume
from inference.refine.grids import Mask
from training.cohort import load_cohort
from training.evaluation.measure import dice, load_measured
from training.evaluation.tables import group, table
from training.judge.loop import Settings, resume
from training.judge.val_cases import KeptCase, keep_cases, kept_cases

THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """One case with and without the judge; Dice is None if nothing was changed.

    Attributes
    ----------
    dice_today, false_today_ml
        Of the pipeline without the judge.
    false_ml
        Volume of the judge's area outside the voxels that the tool overwrote.
    false_in_body_ml
        The part of ``false_ml`` inside the 3 mm network's body.
    """

    case: str
    modality: str
    condition: str
    dice_today: float | None
    dice_judge: float | None
    false_today_ml: float
    false_ml: float
    false_in_body_ml: float


def measure_case(case: KeptCase, network: nn.Module) -> JudgeRow:
    """Compare the judge's result and that of the pipeline without it with the truth."""
    judgement = judge_volume(case.voxels, case.spacing_mm, case.body, case.context, network)
    found = np.zeros(case.voxels.shape, bool)
    found[judgement.window] = judgement.changed > THRESHOLD
    voxel_ml = float(np.prod(case.spacing_mm)) / 1000

    def ml(mask: Mask) -> float:
        return round(float(np.count_nonzero(mask)) * voxel_ml, 2)

    dice_today = dice_judge = None
    truth = np.zeros(case.voxels.shape, bool) if case.truth is None else case.truth
    if case.intact_body is not None:
        inside = truth & case.intact_body
        dice_today, dice_judge = (dice(mask & case.intact_body, inside) for mask in (case.today, found))
    false = found & ~truth
    return JudgeRow(*case.key, dice_today, dice_judge, ml(case.today & ~truth), ml(false), ml(false & case.body))


def tables(rows: Sequence[JudgeRow]) -> str:
    """Return Markdown tables: mean and worst Dice by tool, median and worst false area by condition."""
    tools, untouched = [], []
    for name, chosen in group(rows, lambda row: f"{row.condition}, {row.modality}"):
        if chosen[0].dice_today is None:
            untouched.append([name, str(len(chosen)), *_two(chosen, np.median, max, "false_today_ml", "false_ml")])
            untouched[-1] += _two(chosen, np.median, max, "false_in_body_ml")
        else:
            tools.append([name, str(len(chosen)), *_two(chosen, np.mean, min, "dice_today", "dice_judge")])
            tools[-1] += _two(chosen, np.median, max, "false_ml")
    first = table(["tool", "n", "today", "judge", "judge outside, mL"], tools)
    second = table(["untouched", "n", "today, mL", "judge, mL", "judge in the body, mL"], untouched)
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
    parser.add_argument("--only-kept", action="store_true", help="measure only cases that are already stored")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    if not arguments.only_kept:
        cohort = load_cohort(arguments.data, arguments.cohort, frozenset({"val"}))
        keep_cases(cohort, load_measured(arguments.models), arguments.work / "val")
    learner = resume(arguments.work, Settings())
    network = learner.average.eval().to(memory_format=torch.channels_last_3d)
    rows = []
    with (arguments.work / f"val-{learner.steps}.jsonl").open("w", encoding="utf-8") as lines:
        for case in kept_cases(arguments.work / "val"):
            rows.append(measure_case(case, network))
            lines.write(json.dumps(asdict(rows[-1])) + "\n")
            lines.flush()
    print(f"{learner.steps} steps, {learner.core_s / 3600:.2f} core-hours of training\n\n{tables(rows)}")


if __name__ == "__main__":
    main()

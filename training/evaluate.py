"""Evaluate the models: ``python -m training.evaluate --data DATA --work WORK --split val --out ROWS.jsonl``.

Every intact head of the split is measured unchanged, after each simulated tool, and under simulated scanner effects
without a tool; volumes without a face are measured unchanged. Everything is compared on the source grid: the networks
alone, the node's result after refinement and verdict, and baselines without a model. Each row is written as soon as it
is measured, and existing rows are not measured again, so a run may be interrupted and resumed. Parts of a split may be
measured side by side into files of their own, which are then put together (``cat``).
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch

from training.cohort import Cohort, load_cohort
from training.evaluation.cases import all_cases
from training.evaluation.measure import Measured, load_measured, measure
from training.evaluation.rows import Row, read_rows, weights_of
from training.evaluation.tables import anonymized_tables, foreground_tables


def evaluate(cohort: Cohort, models: Measured, out: Path, *, part: tuple[int, int] = (0, 1)) -> list[Row]:
    """Measure every case that has no row in ``out`` yet; return all rows.

    Parameters
    ----------
    part
        (k, n): only every n-th case, from the k-th one.
    """
    rows = read_rows(out, weights=weights_of(models.specs.values())) if out.is_file() else []
    done = {row.key for row in rows}
    with out.open("a", encoding="utf-8") as lines:
        for member, case in islice(all_cases(cohort), part[0], None, part[1]):
            if (member.entry.id, case.modality, case.condition) in done:
                continue
            row = measure(case, member, models)
            rows.append(row)
            lines.write(json.dumps(asdict(row)) + "\n")
            lines.flush()
    return rows


def every_so_many_faces(cohort: Cohort, every: int) -> Cohort:
    """Return a cohort with only every ``every``-th training face, and all other members."""
    faces: Iterator[int] = iter(range(len(cohort.members)))
    members = [
        member
        for member in cohort.members
        if member.entry.split != "train" or not member.has_face or next(faces) % every == 0
    ]
    return Cohort(tuple(members), cohort.brain_atlas)


def part_of(text: str) -> tuple[int, int]:
    """Return (k - 1, n) for the text ``k/n``."""
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if found is None or int(found[1]) > int(found[2]):
        message = f"{text!r} is no part: expected K/N with K from 1 to N, such as 1/2"
        raise argparse.ArgumentTypeError(message)
    return int(found[1]) - 1, int(found[2])


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="as for training.reference")
    parser.add_argument("--models", type=Path, default=Path("inference/reference"))
    parser.add_argument("--split", choices=["train", "val", "test"], default="val", help="test: for final numbers only")
    parser.add_argument("--train-every", type=int, default=6, help="measure only every N-th training face")
    parser.add_argument(
        "--out", type=Path, required=True, help="rows as JSON lines; existing ones are not measured again"
    )
    parser.add_argument(
        "--part",
        metavar="K/N",
        type=part_of,
        default="1/1",
        help="measure every N-th case, from the K-th one",
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    cohort = load_cohort(arguments.data, arguments.work, frozenset({arguments.split}))
    cohort = every_so_many_faces(cohort, arguments.train_every)
    rows = evaluate(cohort, load_measured(arguments.models), arguments.out, part=arguments.part)
    print(foreground_tables(rows), anonymized_tables(rows), sep="\n\n")


if __name__ == "__main__":
    main()

"""Measure the foreground against exact bodies: ``python -m training.exact_body --data DATA --work WORK --split val``.

Labels of scans follow the scan's own values, and so does the node's result; how far both are from the skin cannot be
seen in a scan. Here label maps are rendered on a grid twice as fine as the scan and averaged down, so that voxels at
the skin are partly air as in a scan. A voxel belongs to the body if at least half of it does.

The printed table compares the network alone, the node's result, and the label that a scan would get with that truth.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.cohort import Cohort, Member, load_cohort
from training.evaluation.cases import FACE, RENDER_AIR_MM, Case
from training.evaluation.measure import dice, load_measured, segment_case
from training.evaluation.tables import group, spread, table
from training.geometry import resample
from training.inventory import Scan
from training.labels import label_foreground
from training.synthesis import render_mr

log = logging.getLogger(__name__)

FINER = 2  # times as fine as the scan in each direction
SPACINGS_MM = (2.0, 1.5, 1.0)
CONTRASTS = 4  # random contrasts, textures and noise levels of each map and spacing


@dataclass(frozen=True, slots=True)
class ExactRow:
    """Dice with the exact body of one rendered scan."""

    person: str
    spacing_mm: float
    network: float
    result: float
    label: float


def exact_cases(cohort: Cohort, spacings_mm: Sequence[float] = SPACINGS_MM) -> Iterator[tuple[Member, Case]]:
    """Yield every label map of the cohort as scans of several spacings and contrasts; ``Case.body`` is exact."""
    for number, member in enumerate(member for member in cohort.members if member.is_labelmap):
        for spacing_mm in spacings_mm:
            groups, body = _fine(member, spacing_mm / FINER)
            share = average_down(body.astype(np.float32))
            for contrast in range(CONTRASTS):
                rng = np.random.default_rng([number, round(100 * spacing_mm), contrast])
                voxels = average_down(render_mr(groups, rng))
                condition = f"{spacing_mm:g} mm"
                yield (
                    member,
                    Case(condition, "MR (rendered)", voxels, (spacing_mm, spacing_mm, spacing_mm), FACE, share >= 0.5),
                )


def average_down(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of blocks of ``FINER`` voxels along each axis (slice, row, column)."""
    slices, rows, columns = (size // FINER for size in values.shape)
    blocks = values[: slices * FINER, : rows * FINER, : columns * FINER]
    blocks = blocks.reshape(slices, FINER, rows, FINER, columns, FINER)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)


def _fine(member: Member, step_mm: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return tissue groups and body on a grid of ``step_mm``, with air around all but the neck."""
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    matrix = np.diag([*(step_mm / spacing), 1.0])
    matrix[1:3, 3] = -RENDER_AIR_MM / spacing[1:]
    extent_mm = np.array(member.voxels.shape) * spacing + [RENDER_AIR_MM, 2 * RENDER_AIR_MM, 2 * RENDER_AIR_MM]
    shape = np.round(extent_mm / step_mm).astype(np.int64)
    groups = resample(member.voxels, matrix, shape, order=0, outside="constant").astype(np.uint8)
    return groups, resample(member.body, matrix, shape, order=0, outside="constant").astype(bool)


def exact_table(rows: Sequence[ExactRow]) -> str:
    """Return a Markdown table of median and worst Dice by spacing."""
    lines = []
    for name, of in group(rows, lambda row: f"{row.spacing_mm:g} mm"):
        people = len({row.person for row in of})
        columns = ([row.network for row in of], [row.result for row in of], [row.label for row in of])
        lines.append([name, len(of), people, *(spread(values) for values in columns)])
    return table(["spacing", "n", "people", "network", "result", "label"], lines)


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="as for training.reference")
    parser.add_argument("--models", type=Path, default=Path("inference/reference"))
    parser.add_argument("--split", choices=["train", "val", "test"], default="val")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    models = load_measured(arguments.models)
    rows = []
    for member, case in exact_cases(load_cohort(arguments.data, arguments.work, frozenset({arguments.split}))):
        assert case.body is not None
        network, _, _, refined = segment_case(case, models)
        label = label_foreground(Scan(case.voxels, np.diag([*case.spacing_mm, 1.0])))
        scores = (dice(mask, case.body) for mask in (network, refined.foreground, label))
        rows.append(ExactRow(member.entry.person, case.spacing_mm[0], *scores))
        log.info("%s", rows[-1])
    print(exact_table(rows))


if __name__ == "__main__":
    main()

"""Measured rows and the tables of the model cards: ``python -m training.results ROWS.jsonl``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.defacing import FAMILIES

FOUND_DICE = 0.5  # inside the head: the tool was seen
SMALL_ML = 20.0


@dataclass(frozen=True, slots=True)
class Row:
    """One measured volume. Dice is None where there is nothing to find; volumes are in mL.

    ``condition`` is a tool's family, or what the untouched volume shows.
    """

    case: str
    person: str
    modality: str
    condition: str
    is_defaced: bool
    foreground_dice: float | None
    otsu_dice: float | None
    head_dice: float | None
    full_dice: float | None
    removed_ml: float
    altered_ml: float


def read_rows(path: Path) -> list[Row]:
    """Rows as ``training.evaluate`` wrote them."""
    return [Row(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def foreground_tables(rows: list[Row]) -> str:
    """Markdown table of the foreground by modality and condition, beside Otsu's threshold."""
    lines = ["| volume | n | Dice: median / worst | Otsu: median / worst |", "|---|---|---|---|"]
    for name, of in _by_condition(rows):
        known = [row for row in of if row.foreground_dice is not None]
        if known:
            found = [row.foreground_dice for row in known if row.foreground_dice is not None]
            plain = [row.otsu_dice for row in known if row.otsu_dice is not None]
            lines.append(f"| {name} | {len(known)} | {_spread(found)} | {_spread(plain)} |")
    return "\n".join(lines)


def anonymized_tables(rows: list[Row]) -> str:
    """Markdown tables by simulated tool, by what untouched volumes show, and of every really defaced head."""
    lines = ["| tool | n | Dice in the head: median / worst | full mask | found, of n |", "|---|---|---|---|---|"]
    for name in FAMILIES:
        of = [row for row in rows if row.condition == name and row.is_defaced]
        heads = [row.head_dice for row in of if row.head_dice is not None]
        full = [row.full_dice for row in of if row.full_dice is not None]
        if of:
            hits = sum(dice > FOUND_DICE for dice in heads)
            lines.append(f"| {name} | {len(of)} | {_spread(heads)} | {np.median(full):.3f} | {hits} |")
    lines += ["", "| untouched | n | `removed`, mL: median / p90 / worst | above 20 mL | `altered`, mL |"]
    lines.append("|---|---|---|---|---|")
    for name, of in _by_condition([row for row in rows if not row.is_defaced]):
        if not name.startswith("really"):
            volumes = [row.removed_ml for row in of]
            altered = [row.altered_ml for row in of]
            above = sum(volume > SMALL_ML for volume in volumes)
            lines.append(f"| {name} | {len(of)} | {_volumes(volumes)} | {above} | {_volumes(altered)} |")
    real = [row for row in rows if row.condition.startswith("defaced")]
    if real:
        lines += ["", "| really defaced | tool, as far as known | `removed`, mL | `altered`, mL |", "|---|---|---|---|"]
        lines += [f"| {row.case} | {row.condition[8:-1]} | {row.removed_ml} | {row.altered_ml} |" for row in real]
    return "\n".join(lines)


def _by_condition(rows: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows by modality and by what was done to them; all tools together."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        condition = "after a simulated tool" if row.is_defaced else row.condition
        condition = "really defaced" if condition.startswith("defaced") else condition
        name = condition if condition == "really defaced" else f"{row.modality}, {condition}"
        groups.setdefault(name, []).append(row)
    yield from groups.items()


def _spread(values: list[float]) -> str:
    return f"{np.median(values):.3f} / {min(values):.3f}"


def _volumes(values: list[float]) -> str:
    return f"{np.median(values):.1f} / {np.percentile(values, 90):.1f} / {max(values):.1f}"


def main() -> None:
    """Print the tables of a file of rows."""
    rows = read_rows(Path(sys.argv[1]))
    print(foreground_tables(rows), anonymized_tables(rows), sep="\n\n")


if __name__ == "__main__":
    main()

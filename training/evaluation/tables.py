"""Markdown tables of measured rows for the model cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from inference.verdict.verdict import SeriesVerdict
from training.defacing import FAMILIES
from training.evaluation.baselines import SMALLEST_RUN_MM
from training.evaluation.cases import FACE
from training.evaluation.rows import Row
from training.evaluation.unseen import UNSEEN

FOUND_DICE = 0.5  # Dice inside the head from which the tool counts as found
SMALL_ML = 20.0
NOTHING = "–"


def foreground_tables(rows: Sequence[Row]) -> str:
    """Tabulate the body by modality and condition: network, result, Otsu's threshold."""
    lines = []
    for name, of in group(rows, _foreground_group):
        known = [row for row in of if row.result.foreground_dice is not None]
        if known:
            lines.append(
                [
                    name,
                    len(known),
                    _people(known),
                    spread(row.network.foreground_dice for row in known),
                    spread(row.result.foreground_dice for row in known),
                    upper(row.result.foreground_hd95_mm for row in known),
                    spread(row.otsu_dice for row in known),
                ]
            )
    head = ["volume", "n", "people", "network", "result", "HD95 mm, median / worst", "Otsu"]
    return table(head, lines)


def contrast_table(rows: Sequence[Row]) -> str:
    """Tabulate untouched heads and tools by contrast, for real volumes only."""
    real = [row for row in rows if "rendered" not in row.modality]
    lines = []
    for name, of in group(real, lambda row: f"{row.modality} {row.contrast}".strip()):
        bodies = [row.result.foreground_dice for row in of if row.result.foreground_dice is not None]
        areas = [row.result.head_dice for row in of if row.is_defaced]
        faces = [row.area_ml for row in of if not row.is_defaced and row.truth == FACE]
        lines.append([name, len(of), _people(of), spread(bodies), spread(areas), volumes(faces)])
    return table(["contrast", "n", "people", "foreground", "area in the head", "false mL on whole faces"], lines)


def tool_table(rows: Sequence[Row]) -> str:
    """Tabulate the anonymised area by simulated tool: network, result, full mask, surface, number found."""
    lines = []
    for name in (*FAMILIES, *UNSEEN):
        of = [row for row in rows if row.condition == name and row.is_defaced]
        if of:
            lines.append(
                [
                    name,
                    len(of),
                    spread(row.network.head_dice for row in of),
                    spread(row.result.head_dice for row in of),
                    f"{np.mean([row.result.head_dice for row in of if row.result.head_dice is not None]):.3f}",
                    spread(row.result.full_dice for row in of),
                    upper(row.result.area_hd95_mm for row in of),
                    sum((row.result.head_dice or 0.0) > FOUND_DICE for row in of),
                ]
            )
    head = ["tool", "n", "network, in the head", "result, in the head", "mean", "result, full mask", "HD95 mm", "found"]
    return table(head, lines)


def untouched_table(rows: Sequence[Row]) -> str:
    """Tabulate the false area without a tool: mL of the network and of the result."""
    lines = []
    untouched = [row for row in rows if not row.is_defaced and not row.condition.startswith("defaced")]
    for name, of in group(untouched, lambda row: f"{row.modality}, {row.condition}"):
        final = [row.area_ml for row in of]
        lines.append(
            [
                name,
                len(of),
                volumes(row.network.area_ml for row in of),
                volumes(final),
                sum(volume > SMALL_ML for volume in final),
                volumes(row.replaced_ml for row in of),
            ]
        )
    head = ["untouched", "n", "network, mL", "result, mL", f"above {SMALL_ML:.0f} mL", "`replaced`, mL"]
    return table(head, lines)


def really_defaced_table(rows: Sequence[Row]) -> str:
    """Tabulate every head that came already defaced; there is no truth to compare with."""
    lines = [
        [row.case, row.condition[8:-1], row.network.area_ml, row.area_ml, row.replaced_ml, row.verdict.verdict]
        for row in rows
        if row.condition.startswith("defaced")
    ]
    head = ["really defaced", "tool, as far as known", "network, mL", "result, mL", "`replaced`, mL", "verdict"]
    return table(head, lines) if lines else ""


def anonymized_tables(rows: Sequence[Row]) -> str:
    """Return all tables of the anonymised area."""
    parts = [tool_table(rows), untouched_table(rows), really_defaced_table(rows)]
    return "\n\n".join(part for part in parts if part)


def verdict_table(rows: Sequence[Row]) -> str:
    """Tabulate verdicts by truth and condition, with the baseline that looks for a run of one value."""
    verdicts = list(SeriesVerdict)
    lines = []
    for name, of in sorted(group(rows, lambda row: f"{row.truth} | {_short(row.condition)}")):
        counts = Counter(row.verdict.verdict for row in of)
        runs = sum(row.zero_run_mm >= SMALLEST_RUN_MM for row in of)
        lines.append([name, *(counts[verdict] or "" for verdict in verdicts), f"{runs} of {len(of)}"])
    return table(["truth", "condition", *verdicts, "constant run says defaced"], lines)


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    rows += ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    return "\n".join(rows)


def group(rows: Iterable[Row], key: Callable[[Row], str]) -> list[tuple[str, list[Row]]]:
    """Group rows by a name, in the order in which the names first occur."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def spread(values: Iterable[float | None]) -> str:
    """Return median and worst (smallest) of overlaps."""
    known = [value for value in values if value is not None]
    return f"{np.median(known):.3f} / {min(known):.3f}" if known else NOTHING


def upper(values: Iterable[float | None]) -> str:
    """Return median and worst (largest) of distances."""
    known = [value for value in values if value is not None]
    return f"{np.median(known):.1f} / {max(known):.1f}" if known else NOTHING


def volumes(values: Iterable[float]) -> str:
    """Return median, 90th percentile and largest of volumes in mL."""
    known = list(values)
    if not known:
        return NOTHING
    return f"{np.median(known):.1f} / {np.percentile(known, 90):.1f} / {max(known):.1f}"


def _foreground_group(row: Row) -> str:
    if row.condition.startswith("defaced"):
        return "really defaced"
    return f"{row.modality}, {'after a simulated tool' if row.is_defaced else row.condition}"


def _short(condition: str) -> str:
    return "really defaced" if condition.startswith("defaced") else condition


def _people(rows: Iterable[Row]) -> int:
    return len({row.person for row in rows})

"""Write the numbers and pictures of the model cards.

``python -m training.cards --data DATA --work WORK VAL.jsonl TEST.jsonl``. The text of ``docs/models/*.md`` is written
by hand; the parts between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` are replaced by tables of the rows that
``training.evaluate`` measured.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from inference.verdict.verdict import SeriesVerdict
from training.cohort import Member, load_cohort
from training.evaluation.cases import ALTERED_FACE, COVERED, FACE, NONE, Case, all_cases
from training.evaluation.measure import Measured, load_measured
from training.evaluation.pictures import Picture, area_picture, foreground_picture, tile_pictures
from training.evaluation.rows import Row, read_rows, weights_of
from training.evaluation.tables import (
    contrast_table,
    foreground_tables,
    really_defaced_table,
    table,
    tool_table,
    untouched_table,
    verdict_table,
)

SHOWN_SOURCE = "ixi"  # pictures show only IXI heads, whose licence allows it (CC BY-SA 3.0)
COLOURS = 128
N_BINS = 5


def main() -> None:
    """Parse the command line and write tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("val", type=Path, help="rows of the val split")
    parser.add_argument("test", type=Path, help="rows of the test split")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("inference/reference"))
    parser.add_argument("--out", type=Path, default=Path("docs/models"))
    arguments = parser.parse_args()
    models = load_measured(arguments.models)
    weights = weights_of(models.specs.values())
    val, test = (read_rows(path, weights=weights) for path in (arguments.val, arguments.test))
    for name in ("foreground", "anonymization"):
        card = arguments.out / f"{name}.md"
        card.write_text(fill_in(card.read_text("utf-8"), blocks(val, test, models)), encoding="utf-8")
    reliability_plot(test, arguments.out / "reliability.png")
    cohort = load_cohort(arguments.data, arguments.work, frozenset({"val"}))
    cases = {(member.entry.id, case.modality, case.condition): (member, case) for member, case in all_cases(cohort)}
    draw(val, cases, models, arguments.out)


def blocks(val: Sequence[Row], test: Sequence[Row], models: Measured) -> dict[str, str]:
    """Return every generated part of both cards, by name."""
    written = {"weights": weights_table(models)}
    for split, rows in (("val", val), ("test", test)):
        written[f"foreground {split}"] = foreground_tables(rows)
        written[f"tools {split}"] = tool_table(rows)
        written[f"untouched {split}"] = untouched_table(rows)
        written[f"verdicts {split}"] = verdict_table(rows)
        written[f"contrasts {split}"] = contrast_table(rows)
    written["really defaced"] = really_defaced_table(test)
    return written


def weights_table(models: Measured) -> str:
    """Return a table of the weights that the numbers are valid for."""
    identities = [spec.identity for spec in models.specs.values()]
    lines = [[identity.role, identity.version, f"`{identity.sha256}`"] for identity in identities]
    return table(["role", "version", "SHA-256"], lines)


def fill_in(text: str, written: Mapping[str, str]) -> str:
    """Return the card with every marked part replaced."""

    def part(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- begin {name} -->\n\n{written[name]}\n\n<!-- end {name} -->"

    return re.sub(r"<!-- begin (?P<name>[\w ]+) -->.*?<!-- end (?P=name) -->", part, text, flags=re.DOTALL)


def draw(
    rows: Sequence[Row], cases: Mapping[tuple[str, str, str], tuple[Member, Case]], models: Measured, out: Path
) -> None:
    """Draw best, median and worst cases of both models and the largest false area, of heads that may be shown."""
    shown = [row for row in rows if row.case.startswith(SHOWN_SOURCE) and row.key in cases]
    bodies = [row for row in shown if row.result.foreground_dice is not None]
    pictures = []
    for rank, row in ranked(bodies, lambda row: row.result.foreground_dice or 0.0):
        caption = f"{rank}: {row.case}, {row.condition}, Dice {row.result.foreground_dice:.3f}"
        pictures.append(foreground_picture(cases[row.key][1], models, caption))
    save(pictures, out / "foreground.png")
    areas = [row for row in shown if row.is_defaced]
    pictures = []
    for rank, row in ranked(areas, lambda row: row.result.head_dice or 0.0):
        caption = f"{rank}: {row.case}, {row.condition}, Dice in the head {row.result.head_dice:.3f}"
        pictures.append(area_picture(cases[row.key][1], models, caption))
    falsely = max((row for row in shown if row.truth == FACE), key=lambda row: row.result.area_ml)
    caption = f"most false area: {falsely.case}, {falsely.condition}, {falsely.result.area_ml:.0f} mL"
    pictures.append(area_picture(cases[falsely.key][1], models, caption))
    save(pictures, out / "anonymization.png")


def ranked(rows: Sequence[Row], score: Callable[[Row], float]) -> list[tuple[str, Row]]:
    """Return the best, the median and the worst row, with these names."""
    order = sorted(rows, key=score)
    return [("best", order[-1]), ("median", order[len(order) // 2]), ("worst", order[0])]


def save(pictures: Sequence[Picture], path: Path) -> None:
    """Save pictures below each other in a file with few colours."""
    Image.fromarray(tile_pictures(pictures, per_row=1)).quantize(COLOURS).save(path, optimize=True)


RIGHT = {
    FACE: SeriesVerdict.FACE_PRESENT,
    COVERED: SeriesVerdict.DEFACED,
    ALTERED_FACE: SeriesVerdict.DEFACED,
    NONE: SeriesVerdict.NOT_APPLICABLE,
}


def reliability(rows: Sequence[Row]) -> list[tuple[float, float, int]]:
    """Return mean probability, share of right verdicts and number of cases, in bins of probability.

    ``indeterminate`` is left out because it is neither right nor wrong; partly covered and cut faces have no right
    verdict.
    """
    judged = [(row.verdict, RIGHT[row.truth]) for row in rows if row.truth in RIGHT]
    said = [
        (verdict.probability, verdict.verdict is right)
        for verdict, right in judged
        if verdict.verdict is not SeriesVerdict.INDETERMINATE
    ]
    edges = np.quantile([probability for probability, _ in said], np.linspace(0, 1, N_BINS + 1))
    places = np.clip(np.searchsorted(edges, [probability for probability, _ in said], side="right") - 1, 0, N_BINS - 1)
    points = []
    for place in np.unique(places):
        own = [judgement for judgement, at in zip(said, places, strict=True) if at == place]
        probabilities, rights = zip(*own, strict=True)
        points.append((float(np.mean(probabilities)), float(np.mean(rights)), len(own)))
    return points


def reliability_plot(rows: Sequence[Row], path: Path) -> None:
    """Plot how often a verdict is right against its stated probability, with and without altered faces."""
    figure, axes = plt.subplots(figsize=(4.6, 4.4), dpi=110)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    cut_only = [row for row in rows if row.truth != ALTERED_FACE]
    for label, chosen, marker in (("all", rows, "o"), ("without blur and reface", cut_only, "s")):
        points = reliability(chosen)
        axes.plot([point[0] for point in points], [point[1] for point in points], marker=marker, label=label)
        for said, right, n in points:
            axes.annotate(str(n), (said, right), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set(xlabel="probability that the verdict gives itself", ylabel="share that is right", ylim=(0, 1.03))
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()

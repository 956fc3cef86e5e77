"""Fit the verdict's numbers: ``python -m training.calibrate_verdict ROWS.jsonl [ROWS.jsonl ...]``.

The rows come from ``training.evaluate``, from the ``val`` split and some training heads; measure them again after every
change of the weights or of the refinement. Two small logistic regressions and their thresholds are fitted to the facts
of each case's masks, and written to ``calibration.yaml``. The printed table shows the verdicts for each person under a
calibration fitted without that person (leave one out). Rows of the ``test`` split are refused.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy import optimize

from inference.models import ModelSpec, read_model_spec
from inference.verdict.calibration import Calibration, calibration_from, cover_features, view_features
from inference.verdict.verdict import SeriesVerdict, Verdict, decide_verdict
from training.evaluation.cases import COVERED, CUT_OFF, FACE, NONE
from training.evaluation.rows import Row, read_rows, weights_of
from training.evaluation.tables import group, table

CALIBRATION = Path("inference/verdict/calibration.yaml")
MISSED_BELOW = 0.1  # coverage below which the network missed a covered face, so that the rule cannot learn from it
RIDGE = 0.02  # penalty on standardised weights; keeps the weights of separable data finite
START_THRESHOLDS = {  # fixed limits, and the strictest or loosest allowed values of the fitted ones
    "not_in_view_below": 0.2,
    "in_view_from": 0.6,
    "face_present_below": 0.3,
    "defaced_from": 0.8,
    "largest_top_cut_cm2": 60.0,
    "largest_front_cut_share": 0.3,
}


def fit(rows: Sequence[Row]) -> dict[str, Any]:
    """Fit both regressions and their thresholds; return the content of ``calibration.yaml``."""
    missed = [row for row in rows if row.truth == COVERED and row.facts["coverage"] < MISSED_BELOW]
    rows = [row for row in rows if row not in missed]
    heads = [row for row in rows if row.truth in (FACE, COVERED)]
    viewed = heads + [row for row in rows if row.truth == NONE]
    in_view = fit_logistic([view_features(row.measured) for row in viewed], [row.truth != NONE for row in viewed])
    covered = fit_logistic([cover_features(row.measured) for row in heads], [row.truth == COVERED for row in heads])
    draft = calibration_from({"in_view": in_view, "covered": covered, "thresholds": START_THRESHOLDS})
    return {
        "fitted_on": {
            "people": len({row.person for row in rows}),
            "missed_by_the_network": len(missed),
            "cases": dict(Counter(f"{row.split}, {row.truth}" for row in rows)),
        },
        "in_view": in_view,
        "covered": covered,
        "thresholds": _thresholds(rows, draft),
    }


def fit_logistic(features: list[dict[str, float]], is_true: list[bool]) -> dict[str, Any]:
    """Fit a logistic regression with ridge penalty, in which both outcomes have the same total weight."""
    names = list(features[0])
    values = np.array([[row[name] for name in names] for row in features])
    wanted = np.array(is_true, float)
    centre, scale = values.mean(0), np.maximum(values.std(0), 1e-6)
    unit = (values - centre) / scale
    importance = np.where(wanted > 0, 0.5 / max(wanted.mean(), 1e-6), 0.5 / max(1 - wanted.mean(), 1e-6))

    def loss(parameters: NDArray[np.float64]) -> float:
        total = unit @ parameters[1:] + parameters[0]
        likelihood = np.logaddexp(0, np.where(wanted > 0, -total, total))
        return float((importance * likelihood).mean() + RIDGE * (parameters[1:] ** 2).sum())

    found = optimize.minimize(loss, np.zeros(len(names) + 1), method="BFGS").x
    weights = found[1:] / scale
    return {
        "bias": round(float(found[0] - weights @ centre), 4),
        "weights": {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)},
    }


def _thresholds(rows: Sequence[Row], draft: Calibration) -> dict[str, float]:
    """Fit the thresholds.

    ``defaced_from`` is half-way between the highest probability of any uncovered face and 1. At most one in fifty
    covered faces is below ``face_present_below``, and one in fifty faces below ``not_in_view_below``.
    """
    limits = dict(START_THRESHOLDS)
    covered = {
        truth: np.array([draft.covered.probability(cover_features(row.measured)) for row in rows if row.truth == truth])
        for truth in (FACE, COVERED, CUT_OFF)
    }
    faces = [draft.in_view.probability(view_features(row.measured)) for row in rows if row.truth in (FACE, COVERED)]
    highest = float(max(covered[FACE].max(), covered[CUT_OFF].max(initial=0.0)))
    limits["defaced_from"] = max(limits["defaced_from"], (1.0 + highest) / 2)
    limits["face_present_below"] = min(limits["face_present_below"], float(np.quantile(covered[COVERED], 0.02)))
    limits["not_in_view_below"] = min(limits["not_in_view_below"], float(np.quantile(faces, 0.02)))
    return {name: round(value, 4) for name, value in limits.items()}


def without_themselves(rows: Sequence[Row]) -> list[tuple[Row, Verdict]]:
    """Return each row with its verdict under a calibration fitted without its person."""
    verdicts = []
    for person, own in group(rows, lambda row: row.person):
        calibration = calibration_from(fit([row for row in rows if row.person != person]))
        verdicts += [(row, decide_verdict(row.measured, calibration)) for row in own]
    return verdicts


def confusion(verdicts: Sequence[tuple[Row, Verdict]]) -> str:
    """Return a Markdown table of verdicts by truth and condition."""
    counts: dict[tuple[str, str], Counter[SeriesVerdict]] = {}
    for row, verdict in verdicts:
        counts.setdefault((row.truth, row.condition), Counter())[verdict.verdict] += 1
    lines = [
        [truth, condition, *(found[verdict] or "" for verdict in SeriesVerdict)]
        for (truth, condition), found in sorted(counts.items())
    ]
    return table(["truth", "condition", *SeriesVerdict], lines)


def written(document: dict[str, Any], specs: Sequence[ModelSpec]) -> str:
    """Return the text of ``calibration.yaml``, including the models that it is valid for."""
    models = {spec.identity.role: spec.identity.sha256 for spec in specs}
    fitted_on = {**document["fitted_on"], "models": models}
    return yaml.safe_dump({**document, "fitted_on": fitted_on}, sort_keys=False, width=110)


def main() -> None:
    """Parse the command line, fit, write the calibration and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument(
        "--models", type=Path, default=Path("inference/reference"), help="models with which the rows were measured"
    )
    arguments = parser.parse_args()
    specs = [read_model_spec(arguments.models / role) for role in ("foreground", "anonymized")]
    rows = [row for path in arguments.rows for row in read_rows(path, weights=weights_of(specs))]
    if any(row.split == "test" for row in rows):
        parser.error("rows of the test split cannot be used for fitting; use val and train")
    CALIBRATION.write_text(written(fit(rows), specs), encoding="utf-8")
    print(confusion(without_themselves(rows)))


if __name__ == "__main__":
    main()

"""Fit the verdict's numbers: ``python -m training.calibrate_verdict --data DATA --work WORK [--fit-only]``.

Every head of ``val`` and some of ``train`` are segmented as the node does it: as they are, under each simulated tool,
stripped, cropped, with zeroed air and so on; volumes without a face as they are. What the masks show of each is kept as
a line of ``WORK/verdict_facts.jsonl``; measured lines are not measured again, so delete the file after new weights. Two
small logistic regressions and their thresholds are fitted to the lines and written to ``calibration.yaml``.

``test`` is never used here; ``--split test --table-only`` gives its confusion table once, for the model card.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from scipy import optimize

from inference.models import ModelSpec, load_model, read_model_spec
from inference.nnunet.preprocessing import Preprocessing
from inference.nnunet.trained_model import TrainedModel
from inference.refine.masks import refine_masks
from inference.verdict.calibration import Calibration, calibration_from, cover_features, view_features
from inference.verdict.facts import SegmentationFacts, gather_facts
from inference.verdict.verdict import SeriesVerdict, decide_verdict
from training.cohort import Cohort, Member, load_cohort
from training.defacing import ALTERED
from training.evaluate import Case, all_cases

log = logging.getLogger(__name__)

CALIBRATION = Path("inference/verdict/calibration.yaml")
MISSED_BELOW = 0.1  # coverage found on a covered face: the network missed it, so the rule cannot learn it
COVERED_FROM = 0.5  # a tool that takes less than this share of the face's front has not covered it
RIDGE = 0.02  # on standardised weights; keeps separable data from infinite ones
FACE, COVERED, PARTLY, ALTERED_FACE, CUT_OFF, NONE = "face", "covered", "partly", "altered", "cut off", "none"


@dataclass(frozen=True, slots=True)
class Line:
    """What one case shows, and what is true of it."""

    case: str
    person: str
    split: str
    modality: str
    condition: str
    truth: str
    facts: dict[str, float]

    @property
    def measured(self) -> SegmentationFacts:
        """The facts as the verdict takes them."""
        return SegmentationFacts(**self.facts)


def measure(cohort: Cohort, specs: dict[str, ModelSpec], out: Path) -> list[Line]:
    """Measure every case that has no line yet."""
    lines = [Line(**json.loads(line)) for line in out.read_text("utf-8").splitlines()] if out.is_file() else []
    done = {(line.case, line.modality, line.condition) for line in lines}
    models = {role: load_model(spec, device=torch.device("cpu")) for role, spec in specs.items()}
    with out.open("a", encoding="utf-8") as stream:
        for member, modality, case in all_cases(cohort):
            if (member.entry.id, modality, case.condition) in done:
                continue
            facts = segment_and_look(case, models, specs, is_ct="CT" in modality)
            entry = member.entry
            truth = truth_of(member, case)
            line = Line(entry.id, entry.person, entry.split, modality, case.condition, truth, facts.as_dict())
            lines.append(line)
            stream.write(json.dumps(asdict(line)) + "\n")
            stream.flush()
    return lines


def segment_and_look(
    case: Case, models: dict[str, TrainedModel], specs: dict[str, ModelSpec], *, is_ct: bool
) -> SegmentationFacts:
    """Both masks as ``inference.segment`` makes them, and their facts."""
    first, second, third = (float(step) for step in case.spacing_mm)
    spacing = (first, second, third)
    preprocessing = Preprocessing(case.voxels, spacing)
    masks = {}
    for role, model in models.items():
        labels = model.predict_labels(preprocessing.prepare(model.plans, model.channels))
        masks[role] = np.isin(labels, specs[role].mask_values)
    refined = refine_masks(
        case.voxels,
        masks["foreground"],
        masks["anonymized"],
        spacing,
        foreground=specs["foreground"].refine,
        anonymized=specs["anonymized"].refine,
        is_ct=is_ct,
    )
    return gather_facts(refined.foreground, refined.anonymized, spacing)


def truth_of(member: Member, case: Case) -> str:
    """What should be found: by construction, or by what the inventory says."""
    if case.changed is not None and case.body is not None:
        if case.condition in ALTERED:
            return ALTERED_FACE
        first, second, third = (float(step) for step in case.spacing_mm)
        coverage = gather_facts(case.body, case.changed, (first, second, third)).coverage
        return COVERED if coverage >= COVERED_FROM else PARTLY
    if "stripped" in case.condition or member.entry.body_part != "head":
        return NONE
    if member.has_face and case.condition != "cropped":
        return FACE
    return COVERED if member.entry.face.startswith("defaced") else CUT_OFF


def fit(lines: list[Line], specs: dict[str, ModelSpec]) -> dict[str, Any]:
    """Both regressions and their thresholds, as the content of ``calibration.yaml``."""
    missed = [line for line in lines if line.truth == COVERED and line.facts["coverage"] < MISSED_BELOW]
    lines = [line for line in lines if line not in missed]
    heads = [line for line in lines if line.truth in (FACE, COVERED)]
    viewed = heads + [line for line in lines if line.truth == NONE]
    in_view = fit_logistic([view_features(line.measured) for line in viewed], [line.truth != NONE for line in viewed])
    covered = fit_logistic([cover_features(line.measured) for line in heads], [line.truth == COVERED for line in heads])
    draft = calibration_from({"in_view": in_view, "covered": covered, "thresholds": _start_thresholds()})
    return {
        "fitted_on": {
            "people": len({line.person for line in lines}),
            "missed_by_the_network": len(missed),
            "cases": dict(Counter(f"{line.split}, {line.truth}" for line in lines)),
            "models": {role: spec.identity.sha256 for role, spec in specs.items()},
        },
        "in_view": in_view,
        "covered": covered,
        "thresholds": _thresholds(lines, draft),
    }


def fit_logistic(features: list[dict[str, float]], is_true: list[bool]) -> dict[str, Any]:
    """Ridge logistic regression; both outcomes weigh the same."""
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


def _start_thresholds() -> dict[str, float]:
    """Limits that are not fitted, and the least that is asked of the fitted ones."""
    return {
        "not_in_view_below": 0.2,
        "in_view_from": 0.6,
        "face_present_below": 0.3,
        "defaced_from": 0.8,
        "largest_top_cut_cm2": 60.0,
        "largest_front_cut_share": 0.3,
    }


def _thresholds(lines: list[Line], draft: Calibration) -> dict[str, float]:
    """Put ``defaced_from`` above every face that is there, with half of what is left to 1 as a margin.

    ``face_present_below`` leaves at most one in fifty covered faces below it, ``not_in_view_below`` one in fifty faces.
    """
    limits = _start_thresholds()
    covered = {
        truth: np.array(
            [draft.covered.probability(cover_features(line.measured)) for line in lines if line.truth == truth]
        )
        for truth in (FACE, COVERED, CUT_OFF)
    }
    faces = [draft.in_view.probability(view_features(line.measured)) for line in lines if line.truth in (FACE, COVERED)]
    highest = float(max(covered[FACE].max(), covered[CUT_OFF].max(initial=0.0)))
    limits["defaced_from"] = max(limits["defaced_from"], (1.0 + highest) / 2)
    limits["face_present_below"] = min(limits["face_present_below"], float(np.quantile(covered[COVERED], 0.02)))
    limits["not_in_view_below"] = min(limits["not_in_view_below"], float(np.quantile(faces, 0.02)))
    return {name: round(value, 4) for name, value in limits.items()}


def confusion(lines: Iterable[Line], calibration: Calibration) -> str:
    """Markdown table of truth and condition against verdict."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for line in lines:
        verdict = decide_verdict(line.measured, calibration).verdict
        counts.setdefault((line.truth, line.condition), Counter())[verdict.value] += 1
    verdicts = [verdict.value for verdict in SeriesVerdict]
    rows = ["| truth | condition | " + " | ".join(verdicts) + " |", "|---" * (len(verdicts) + 2) + "|"]
    rows += [
        f"| {truth} | {condition} | " + " | ".join(str(found[verdict] or "") for verdict in verdicts) + " |"
        for (truth, condition), found in sorted(counts.items())
    ]
    return "\n".join(rows)


def _chosen(cohort: Cohort, every: int) -> Cohort:
    """All of the other splits; of the training faces every so many; all that show none."""
    faces: Iterator[int] = iter(range(len(cohort.members)))
    members = [
        member
        for member in cohort.members
        if member.entry.split != "train" or not member.has_face or next(faces) % every == 0
    ]
    return Cohort(tuple(members), cohort.brain_atlas)


def main() -> None:
    """Parse the command line; measure, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="as for training.reference")
    parser.add_argument("--models", type=Path, default=Path("inference/reference"))
    parser.add_argument("--facts", type=Path, help="default: WORK/verdict_facts.jsonl")
    parser.add_argument("--train-every", type=int, default=6, help="take every so many training faces")
    parser.add_argument("--fit-only", action="store_true", help="measure nothing, fit to the lines that are there")
    parser.add_argument("--split", choices=["val", "test"], default="val", help="test only with --table-only")
    parser.add_argument("--table-only", action="store_true", help="fit nothing, use calibration.yaml as it is")
    arguments = parser.parse_args()
    if arguments.split == "test" and not arguments.table_only:
        parser.error("nothing is fitted on the test split; add --table-only")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    specs = {role: read_model_spec(arguments.models / role) for role in ("foreground", "anonymized")}
    out = arguments.facts or arguments.work / "verdict_facts.jsonl"
    if arguments.fit_only:
        lines = [Line(**json.loads(line)) for line in out.read_text("utf-8").splitlines()]
    else:
        splits = {"test"} if arguments.split == "test" else {"val", "train"}
        cohort = load_cohort(arguments.data, arguments.work, frozenset(splits))
        lines = measure(_chosen(cohort, arguments.train_every), specs, out)
    if not arguments.table_only:
        CALIBRATION.write_text(yaml.safe_dump(fit(lines, specs), sort_keys=False, width=110), encoding="utf-8")
    calibration = calibration_from(yaml.safe_load(CALIBRATION.read_text("utf-8")))
    for split in sorted({line.split for line in lines}):
        print(f"\n{split}\n\n{confusion((line for line in lines if line.split == split), calibration)}")


if __name__ == "__main__":
    main()

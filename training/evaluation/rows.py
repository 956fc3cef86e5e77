"""Rows of measurements, one JSON line per case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from inference.judge_stage import doubted_if_unconfirmed
from inference.models import ModelSpec
from inference.verdict.facts import SegmentationFacts
from inference.verdict.verdict import Verdict, decide_verdict, is_area_without_face


@dataclass(frozen=True, slots=True)
class MaskScores:
    """Scores of masks against the truth; None if there is no truth or nothing to find.

    Attributes
    ----------
    foreground_dice, foreground_hd95_mm
        Of the body.
    head_dice
        Of the anonymised area inside the original head; outside it, zero written over zero cannot be detected.
    full_dice
        Of the anonymised area against everything that the tool overwrote, including air.
    area_hd95_mm
        Of the anonymised area inside the original head; None also if nothing was found.
    area_ml
        Volume of the anonymised area.
    """

    foreground_dice: float | None
    foreground_hd95_mm: float | None
    head_dice: float | None
    full_dice: float | None
    area_hd95_mm: float | None
    area_ml: float


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case: the networks alone, the node's result, and baselines without a model.

    Attributes
    ----------
    condition
        A tool's family, a scanner effect, or the inventory's description.
    truth
        Truth about the face, as named in ``training.evaluation.cases``.
    network, result
        Scores of the networks alone and of the node's result.
    replaced_ml
        Volume that the network labels as replaced by another face; not part of the mask.
    weights
        SHA-256 of both models; rows of different weights must not be mixed.
    facts
        Without what only the judge found, unless it is sure of it.
    unconfirmed_ml, facts_with_judge
        Volume of what only the judge found and is not sure of, and the facts with it; None without any.
    zero_run_mm
        How far a constant value reaches behind the forehead's front at the face, measured on Otsu's body.
    """

    case: str
    person: str
    split: str
    modality: str
    contrast: str
    condition: str
    truth: str
    is_defaced: bool
    network: MaskScores
    result: MaskScores
    otsu_dice: float | None
    zero_run_mm: float
    replaced_ml: float
    decided_by: str
    facts: dict[str, float]
    weights: str
    unconfirmed_ml: float = 0.0
    facts_with_judge: dict[str, float] | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Unique key of the case: volume, modality and condition."""
        return self.case, self.modality, self.condition

    @property
    def measured(self) -> SegmentationFacts:
        """The facts in the type that the verdict needs."""
        return SegmentationFacts(**self.facts)

    @property
    def verdict(self) -> Verdict:
        """The verdict under the package's calibration, as the node gives it."""
        confirmed = decide_verdict(self.measured)
        if self.facts_with_judge is None:
            return confirmed
        found = decide_verdict(SegmentationFacts(**self.facts_with_judge))
        return doubted_if_unconfirmed(found, confirmed, self.unconfirmed_ml)

    @property
    def area_ml(self) -> float:
        """Volume of the anonymised area that the node would write."""
        return 0.0 if is_area_without_face(self.verdict, self.measured) else self.result.area_ml


def weights_of(specs: Iterable[ModelSpec]) -> str:
    """Return the SHA-256 of both models in a stable order."""
    return " ".join(spec.identity.sha256 for spec in sorted(specs, key=lambda spec: spec.identity.role))


def read_rows(path: Path, *, weights: str) -> list[Row]:
    """Read rows written by ``training.evaluate``.

    Raises
    ------
    ValueError
        Rows were measured with other weights.
    """
    reader = TypeAdapter(Row)
    rows = [reader.validate_json(line) for line in path.read_text("utf-8").splitlines()]
    if any(row.weights != weights for row in rows):
        message = f"{path} holds rows of other weights: measure again into another file"
        raise ValueError(message)
    return rows

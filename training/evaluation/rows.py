"""What is kept of each measured case, a JSON line each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from inference.models import ModelSpec
from inference.segment import is_area_without_face
from inference.verdict.facts import SegmentationFacts
from inference.verdict.verdict import Verdict, decide_verdict


@dataclass(frozen=True, slots=True)
class MaskScores:
    """How well masks fit the truth; None where there is no truth or nothing to find.

    Attributes
    ----------
    head_dice
        Of the anonymised area inside the original head: outside it, zero written over zero can't be told.
    full_dice
        Of the anonymised area against all that the tool wrote over, air included.
    area_hd95_mm
        Of the anonymised area inside the original head; None also where nothing was found.
    """

    foreground_dice: float | None
    foreground_hd95_mm: float | None
    head_dice: float | None
    full_dice: float | None
    area_hd95_mm: float | None
    area_ml: float


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case: the networks alone, the node's result, and what one would do without a model.

    Attributes
    ----------
    condition
        A tool's family, what a scanner did, or what the inventory says.
    truth
        What is true of the face, as ``training.evaluation.cases`` names it.
    replaced_ml
        What the network takes for another face; not part of the mask.
    weights
        SHA-256 of both networks' checkpoints: rows of other weights don't mix.
    zero_run_mm
        How far a constant reaches behind the forehead before the face, on Otsu's body.
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

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells cases apart."""
        return self.case, self.modality, self.condition

    @property
    def measured(self) -> SegmentationFacts:
        """The facts as the verdict takes them."""
        return SegmentationFacts(**self.facts)

    @property
    def verdict(self) -> Verdict:
        """The verdict under the calibration that ships."""
        return decide_verdict(self.measured)

    @property
    def area_ml(self) -> float:
        """The anonymised area that the node would write."""
        return 0.0 if is_area_without_face(self.verdict, self.measured) else self.result.area_ml


def weights_of(specs: Iterable[ModelSpec]) -> str:
    """What tells the weights of both models from all others, in a stable order."""
    return " ".join(spec.identity.sha256 for spec in sorted(specs, key=lambda spec: spec.identity.role))


def read_rows(path: Path, *, weights: str) -> list[Row]:
    """Rows as ``training.evaluate`` wrote them.

    Raises
    ------
    ValueError
        Some were measured with other weights.
    """
    reader = TypeAdapter(Row)
    rows = [reader.validate_json(line) for line in path.read_text("utf-8").splitlines()]
    if any(row.weights != weights for row in rows):
        message = f"{path} holds rows of other weights: measure again into another file"
        raise ValueError(message)
    return rows

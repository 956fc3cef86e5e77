"""The numbers of the verdict, fitted by ``python -m training.calibrate_verdict`` and kept in ``calibration.yaml``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from inference.verdict.facts import SegmentationFacts

CALIBRATION_FILE = "calibration.yaml"


def calibration_sha256() -> str:
    """SHA-256 of the calibration that ships, so that results say under which numbers they were found."""
    return hashlib.sha256(resources.files(__package__).joinpath(CALIBRATION_FILE).read_bytes()).hexdigest()


def view_features(facts: SegmentationFacts) -> dict[str, float]:
    """What tells whether a face is in view; each is capped where more of it says nothing more."""
    head_ml = facts.foreground_ml + facts.face_ml
    return {
        "window_share": min(facts.window_share, 0.8),
        "ln_head_ml": math.log(min(max(head_ml, 500.0), 3500.0)),
        "excess_width_cm": min(max(facts.upper_width_mm - 180.0, 0.0), 120.0) / 10.0,
    }


def cover_features(facts: SegmentationFacts) -> dict[str, float]:
    """What tells whether the face is gone."""
    return {
        "coverage": facts.coverage,
        "ln_face_ml": math.log1p(min(facts.face_ml, 200.0)),
        "recess_cm": min(max(facts.recess_mm, -30.0), 50.0) / 10.0,
    }


@dataclass(frozen=True, slots=True)
class Logistic:
    """Probability from weighted features."""

    weights: Mapping[str, float]
    bias: float

    def probability(self, features: Mapping[str, float]) -> float:
        """Between 0 and 1."""
        total = self.bias + sum(self.weights[name] * value for name, value in features.items())
        return 1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, total))))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Both probabilities and the thresholds on them.

    Attributes
    ----------
    in_view, covered
        Probability that a face is in the field of view, and that it is covered by anonymised area.
    not_in_view_below, in_view_from
        Between them it is unclear whether there is a face to look for.
    face_present_below, defaced_from
        Between them it is unclear whether the face is covered.
    largest_top_cut_cm2
        More body than this in the topmost plane: vertex and face cannot be located.
    largest_front_cut_share
        More of the face than this begins at the edge of the volume.
    """

    in_view: Logistic
    covered: Logistic
    not_in_view_below: float
    in_view_from: float
    face_present_below: float
    defaced_from: float
    largest_top_cut_cm2: float
    largest_front_cut_share: float


def calibration_from(document: Mapping[str, Any]) -> Calibration:
    """Build from the content of ``calibration.yaml``."""
    thresholds = document["thresholds"]
    return Calibration(
        in_view=Logistic(document["in_view"]["weights"], document["in_view"]["bias"]),
        covered=Logistic(document["covered"]["weights"], document["covered"]["bias"]),
        **{name: float(value) for name, value in thresholds.items()},
    )


@lru_cache(maxsize=1)
def default_calibration() -> Calibration:
    """The calibration that comes with the package."""
    text = (resources.files("inference.verdict") / CALIBRATION_FILE).read_text(encoding="utf-8")
    return calibration_from(yaml.safe_load(text))

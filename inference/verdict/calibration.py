"""Coefficients and thresholds of the verdict.

``python -m training.calibrate_verdict`` fits them and writes them to ``calibration.yaml``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:  # commands need the digest only, and facts need SciPy
    from inference.verdict.facts import SegmentationFacts

CALIBRATION_FILE = "calibration.yaml"


def calibration_sha256() -> str:
    """Return the SHA-256 of the calibration in the package, so that results can name the numbers they are based on."""
    return hashlib.sha256(resources.files(__package__).joinpath(CALIBRATION_FILE).read_bytes()).hexdigest()


def verdict_parameters() -> tuple[str, ...]:
    """Return the calibration's digest and the thresholds as ``name=value``, for results that state them."""
    document = yaml.safe_load(resources.files(__package__).joinpath(CALIBRATION_FILE).read_bytes())
    thresholds = (f"{name}={value}" for name, value in sorted(document["thresholds"].items()))
    return (f"calibration_sha256={calibration_sha256()}", *thresholds)


def view_features(facts: SegmentationFacts) -> dict[str, float]:
    """Return the features from which to predict whether a face is in view; each is clipped to its informative range."""
    head_ml = facts.foreground_ml + facts.face_ml
    return {
        "window_share": min(facts.window_share, 0.8),
        "ln_head_ml": math.log(min(max(head_ml, 500.0), 3500.0)),
        "excess_width_cm": min(max(facts.upper_width_mm - 180.0, 0.0), 120.0) / 10.0,
    }


def cover_features(facts: SegmentationFacts) -> dict[str, float]:
    """Return the features from which to predict whether the face is covered by anonymised area."""
    return {
        "coverage": facts.coverage,
        "ln_face_ml": math.log1p(min(facts.face_ml, 200.0)),
        "recess_cm": min(max(facts.recess_mm, -30.0), 50.0) / 10.0,
    }


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logistic regression."""

    weights: Mapping[str, float]
    bias: float

    def probability(self, features: Mapping[str, float]) -> float:
        """Return the probability, between 0 and 1."""
        total = self.bias + sum(self.weights[name] * value for name, value in features.items())
        return 1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, total))))


@dataclass(frozen=True, slots=True)
class Calibration:
    """The models of both probabilities, and the thresholds on them.

    Attributes
    ----------
    in_view, covered
        Models of the probability that a face is in the field of view, and that anonymised area covers it.
    not_in_view_below, in_view_from
        Probabilities of ``in_view`` between which it is unclear whether a face is in view.
    face_present_below, defaced_from
        Probabilities of ``covered`` between which it is unclear whether the face is covered.
    largest_top_cut_cm2
        If the topmost plane has more body than this, vertex and face cannot be located.
    largest_front_cut_share
        If a larger share of the face than this is cut off by the edge of the volume, the verdict is unclear.
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
    """Build a calibration from the content of ``calibration.yaml``."""
    thresholds = document["thresholds"]
    return Calibration(
        in_view=Logistic(document["in_view"]["weights"], document["in_view"]["bias"]),
        covered=Logistic(document["covered"]["weights"], document["covered"]["bias"]),
        **{name: float(value) for name, value in thresholds.items()},
    )


@lru_cache(maxsize=1)
def default_calibration() -> Calibration:
    """Return the calibration that comes with the package."""
    text = (resources.files("inference.verdict") / CALIBRATION_FILE).read_text(encoding="utf-8")
    return calibration_from(yaml.safe_load(text))

"""Whether a series still shows a face, from the two masks alone.

A first rule with fixed thresholds, on sizes only: no probability here is calibrated. Doubt ends at ``indeterminate`` or
``face_present``, never at ``defaced``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

# Below this there is no body in the field of view: noise, a phantom's edge, an empty scan.
MIN_BODY_ML = 100.0
# A skull-stripped brain has 900 to 1900 mL; a head with skin and face, from school age on, more than 2200 mL.
MIN_HEAD_ML = 2000.0
# A head is at most about 180 mm wide, with ears 210 mm; wider uppermost parts are shoulders, chest or belly.
MAX_HEAD_WIDTH_MM = 240.0
HEAD_HEIGHT_MM = 120.0  # the uppermost part that is looked at: vertex to chin is about 220 mm
MIN_HEIGHT_MM = 60.0  # a slab thinner than this shows no face that anybody knows
# False area on intact heads stays under 20 mL in nine of ten (measured 2026-11); tools remove 50 mL and more.
DEFACED_ML = 20.0
INTACT_ML = 5.0
UNCALIBRATED_WIDTH = 0.5  # of the logistic curve over ln(mL); makes 0.94 at four times DEFACED_ML


class SeriesVerdict(StrEnum):
    """What is said about one series."""

    DEFACED = "defaced"
    FACE_PRESENT = "face_present"
    INDETERMINATE = "indeterminate"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict, how likely it is to be right (not calibrated), and why."""

    verdict: SeriesVerdict
    probability: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SegmentationFacts:
    """What the rule looks at.

    Attributes
    ----------
    height_mm
        Extent of the foreground from foot to head.
    upper_width_mm
        Its extent from right to left in the uppermost ``HEAD_HEIGHT_MM``.
    """

    foreground_ml: float
    anonymized_ml: float
    height_mm: float
    upper_width_mm: float


def gather_facts(
    foreground: NDArray[np.bool_], anonymized: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> SegmentationFacts:
    """Measure masks whose axes point to head, posterior and left."""
    voxel_ml = math.prod(spacing_mm) / 1000.0
    planes = np.flatnonzero(foreground.any(axis=(1, 2)))
    if not planes.size:
        return SegmentationFacts(0.0, float(np.count_nonzero(anonymized)) * voxel_ml, 0.0, 0.0)
    top = int(planes[-1]) + 1
    bottom = max(0, top - math.ceil(HEAD_HEIGHT_MM / spacing_mm[0]))
    columns = np.flatnonzero(foreground[bottom:top].any(axis=(0, 1)))
    return SegmentationFacts(
        foreground_ml=float(np.count_nonzero(foreground)) * voxel_ml,
        anonymized_ml=float(np.count_nonzero(anonymized)) * voxel_ml,
        height_mm=float(top - planes[0]) * spacing_mm[0],
        upper_width_mm=float(columns[-1] - columns[0] + 1) * spacing_mm[2],
    )


def decide_verdict(facts: SegmentationFacts) -> Verdict:
    """Apply the rule."""
    reason = _reason_against_head(facts)
    found = f"anonymised area of {facts.anonymized_ml:.0f} mL"
    if reason is not None and facts.anonymized_ml >= DEFACED_ML:
        # The two models contradict each other: where no head is, no tool has taken a face away.
        return Verdict(SeriesVerdict.INDETERMINATE, 0.5, (reason, found))
    if reason is not None:
        return Verdict(SeriesVerdict.NOT_APPLICABLE, 1.0 - _covered_probability(facts.anonymized_ml), (reason,))
    covered = _covered_probability(facts.anonymized_ml)
    if facts.anonymized_ml >= DEFACED_ML:
        return Verdict(SeriesVerdict.DEFACED, covered, (f"head with an {found}",))
    if facts.anonymized_ml >= INTACT_ML:
        return Verdict(SeriesVerdict.INDETERMINATE, 0.5, (f"head with an {found}, too little to be sure",))
    return Verdict(SeriesVerdict.FACE_PRESENT, 1.0 - covered, (f"head with an {found}",))


def _reason_against_head(facts: SegmentationFacts) -> str | None:
    """Why this is no head with a face in view, or None."""
    if facts.foreground_ml < MIN_BODY_ML:
        return f"no body found ({facts.foreground_ml:.0f} mL)"
    if facts.height_mm < MIN_HEIGHT_MM:
        return f"the body is in view for {facts.height_mm:.0f} mm only"
    if facts.upper_width_mm > MAX_HEAD_WIDTH_MM:
        return f"the uppermost part is {facts.upper_width_mm:.0f} mm wide, wider than a head"
    if facts.foreground_ml < MIN_HEAD_ML:
        return f"foreground of {facts.foreground_ml:.0f} mL is smaller than a head with its face"
    return None


def _covered_probability(anonymized_ml: float) -> float:
    """Rises from 0 to 1 with the anonymised volume, 0.5 at ``DEFACED_ML``."""
    distance = (math.log(anonymized_ml + 1.0) - math.log(DEFACED_ML + 1.0)) / UNCALIBRATED_WIDTH
    return 1.0 / (1.0 + math.exp(-distance))

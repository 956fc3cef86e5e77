"""Decide whether a series still shows a face, from the two masks alone.

First: is the face of a head in view? Then: does the anonymised area cover it? Both answers are probabilities with
thresholds fitted on held-out people (``calibration.yaml``). In doubt the verdict is ``indeterminate`` or
``face_present``, never ``defaced``, because calling an intact face defaced is the dangerous error.

After training new reference weights, measure with ``python -m training.evaluate`` and fit again with
``python -m training.calibrate_verdict``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inference.verdict.calibration import Calibration, cover_features, default_calibration, view_features
from inference.verdict.facts import SegmentationFacts, gather_facts

__all__ = ["SegmentationFacts", "SeriesVerdict", "Verdict", "decide_verdict", "gather_facts", "is_area_without_face"]

WIDEST_HEAD_MM = 200.0  # used only to choose the wording of a reason
# A head with neck and shoulders has less volume. If there is more body and no face in view, no face was removed, and
# the network's area is air that looks like a fill (docs/models/anonymization.md, known failures).
LARGEST_HEAD_ML = 10_000.0
SMALLEST_HEAD_ML = 2000.0  # a brain has 900 to 1900 mL, a head with skin and face more


class SeriesVerdict(StrEnum):
    """Possible verdicts on a series."""

    DEFACED = "defaced"
    FACE_PRESENT = "face_present"
    INDETERMINATE = "indeterminate"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict, its probability and its reasons.

    Attributes
    ----------
    probability
        Probability that the verdict is right; for ``indeterminate``, that of the most likely other verdict.
    reasons
        Sentences for the operator.
    """

    verdict: SeriesVerdict
    probability: float
    reasons: tuple[str, ...]


def decide_verdict(facts: SegmentationFacts, calibration: Calibration | None = None) -> Verdict:
    """Return the verdict that follows from the facts; None for the calibration that comes with the package."""
    numbers = calibration or default_calibration()
    in_view = numbers.in_view.probability(view_features(facts))
    covered = numbers.covered.probability(cover_features(facts))
    found = f"anonymised area on {facts.coverage:.0%} of the face's front, {facts.face_ml:.0f} mL there"
    is_found = covered >= numbers.face_present_below
    if in_view < numbers.not_in_view_below:
        reason = _reason_against_view(facts)
        # The two models contradict each other: no tool can have removed a face where there is none.
        if is_found and facts.foreground_ml <= LARGEST_HEAD_ML:
            return _indeterminate(in_view, covered, reason, found)
        return Verdict(SeriesVerdict.NOT_APPLICABLE, 1.0 - in_view, (reason,))
    doubts = _doubts_about_view(facts, in_view, numbers)
    if doubts:
        return _indeterminate(in_view, covered, *doubts, found)
    if covered >= numbers.defaced_from:
        return Verdict(SeriesVerdict.DEFACED, in_view * covered, (found,))
    if is_found:
        return _indeterminate(in_view, covered, f"{found}: neither clearly covered nor clearly there")
    return Verdict(SeriesVerdict.FACE_PRESENT, in_view * (1.0 - covered), (f"face in view, {found}",))


def _indeterminate(in_view: float, covered: float, *reasons: str) -> Verdict:
    likeliest = max(1.0 - in_view, in_view * covered, in_view * (1.0 - covered))
    return Verdict(SeriesVerdict.INDETERMINATE, likeliest, reasons)


def _reason_against_view(facts: SegmentationFacts) -> str:
    """Return the most obvious reason why no face is in view."""
    if facts.upper_width_mm > WIDEST_HEAD_MM:
        return f"the uppermost part is {facts.upper_width_mm:.0f} mm wide, wider than a head"
    if facts.foreground_ml < SMALLEST_HEAD_ML:
        return f"foreground of {facts.foreground_ml:.0f} mL is smaller than a head with its face"
    return f"only {facts.window_share:.0%} of where the face would be is in view"


def _doubts_about_view(facts: SegmentationFacts, in_view: float, numbers: Calibration) -> list[str]:
    """Return the reasons why it is unclear whether, or where, a face is in view."""
    doubts = []
    if in_view < numbers.in_view_from:
        doubts.append(f"{facts.window_share:.0%} of where the face would be is in view")
    if facts.top_cut_cm2 > numbers.largest_top_cut_cm2:
        doubts.append(f"the field of view ends below the vertex ({facts.top_cut_cm2:.0f} cm2 of body in its top plane)")
    if facts.front_cut_share > numbers.largest_front_cut_share:
        doubts.append(f"the field of view cuts {facts.front_cut_share:.0%} of the face off")
    return doubts


def is_area_without_face(verdict: Verdict, facts: SegmentationFacts) -> bool:
    """Whether the anonymised area must be wrong: there is more body than a head has, and no face in view."""
    return verdict.verdict is SeriesVerdict.NOT_APPLICABLE and facts.foreground_ml > LARGEST_HEAD_ML

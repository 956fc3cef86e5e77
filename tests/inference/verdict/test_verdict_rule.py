"""What is said about a face, and that doubt never ends at defaced."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.verdict.calibration import cover_features, default_calibration
from inference.verdict.facts import SegmentationFacts
from inference.verdict.verdict import SeriesVerdict, decide_verdict

# Medians of intact heads, measured on the labels of training volumes.
HEAD = SegmentationFacts(
    foreground_ml=4200.0,
    anonymized_ml=0.0,
    height_mm=224.0,
    upper_ml=1600.0,
    upper_width_mm=156.0,
    window_share=0.95,
)
GONE = {"anonymized_ml": 400.0, "coverage": 0.97, "face_ml": 450.0, "recess_mm": 40.0}


@pytest.mark.parametrize(
    ("changes", "expected", "reason"),
    [
        ({}, SeriesVerdict.FACE_PRESENT, "face in view"),
        (GONE, SeriesVerdict.DEFACED, "97%"),
        ({"foreground_ml": 3.0, "window_share": 0.0}, SeriesVerdict.NOT_APPLICABLE, "3 mL"),
        ({"foreground_ml": 1400.0, "window_share": 0.1}, SeriesVerdict.NOT_APPLICABLE, "1400 mL"),  # brain
        ({"foreground_ml": 16000.0, "upper_width_mm": 390.0}, SeriesVerdict.NOT_APPLICABLE, "390 mm wide"),
        (  # air before a chest that looks like a fill
            {"foreground_ml": 16000.0, "upper_width_mm": 390.0, "coverage": 0.9, "face_ml": 300.0, "recess_mm": 40.0},
            SeriesVerdict.NOT_APPLICABLE,
            "390 mm wide",
        ),
        ({"foreground_ml": 2600.0, "window_share": 0.05}, SeriesVerdict.NOT_APPLICABLE, "5%"),  # above the brow
        ({"foreground_ml": 1400.0, "window_share": 0.1, **GONE}, SeriesVerdict.INDETERMINATE, "1400 mL"),
        ({"top_cut_cm2": 150.0}, SeriesVerdict.INDETERMINATE, "vertex"),
        ({"top_cut_cm2": 150.0, **GONE}, SeriesVerdict.INDETERMINATE, "vertex"),
        ({"front_cut_share": 0.8}, SeriesVerdict.INDETERMINATE, "cuts 80%"),
    ],
)
def test_the_rule(changes: dict[str, float], expected: SeriesVerdict, reason: str) -> None:
    verdict = decide_verdict(replace(HEAD, **changes))
    assert verdict.verdict is expected
    assert any(reason in text for text in verdict.reasons)


def test_between_the_thresholds_nothing_is_said() -> None:
    numbers = default_calibration()
    shares = [step / 200 for step in range(201)]
    facts = [replace(HEAD, coverage=share, face_ml=450 * share, recess_mm=40 * share) for share in shares]
    found = [decide_verdict(fact) for fact in facts]
    order = [SeriesVerdict.FACE_PRESENT, SeriesVerdict.INDETERMINATE, SeriesVerdict.DEFACED]
    places = [order.index(verdict.verdict) for verdict in found]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2}
    for fact, verdict in zip(facts, found, strict=True):
        covered = numbers.covered.probability(cover_features(fact))
        assert (verdict.verdict is SeriesVerdict.DEFACED) == (covered >= numbers.defaced_from)


@given(
    st.builds(
        SegmentationFacts,
        foreground_ml=st.floats(0, 40000),
        anonymized_ml=st.floats(0, 3000),
        height_mm=st.floats(0, 2000),
        upper_ml=st.floats(0, 9000),
        upper_width_mm=st.floats(0, 600),
        top_cut_cm2=st.floats(0, 1500),
        window_share=st.floats(0, 1),
        front_cut_share=st.floats(0, 1),
        coverage=st.floats(0, 1),
        face_ml=st.floats(0, 900),
        recess_mm=st.floats(-40, 60),
    )
)
def test_defaced_needs_a_face_in_view_that_is_covered(facts: SegmentationFacts) -> None:
    verdict = decide_verdict(facts)
    assert 0.0 <= verdict.probability <= 1.0
    assert verdict.reasons
    if verdict.verdict is SeriesVerdict.DEFACED:
        assert facts.coverage > 0.2
        assert facts.window_share > 0.3
        assert facts.foreground_ml > 1200.0

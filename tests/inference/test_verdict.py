"""What is said about a face, from sizes alone."""

import numpy as np
import pytest

from inference.verdict.verdict import SegmentationFacts, SeriesVerdict, decide_verdict, gather_facts

HEAD = {"foreground_ml": 4200.0, "height_mm": 240.0, "upper_width_mm": 170.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"anonymized_ml": 0.0}, SeriesVerdict.FACE_PRESENT),
        ({"anonymized_ml": 12.0}, SeriesVerdict.INDETERMINATE),
        ({"anonymized_ml": 150.0}, SeriesVerdict.DEFACED),
        ({"anonymized_ml": 0.0, "foreground_ml": 3.0}, SeriesVerdict.NOT_APPLICABLE),  # phantom
        ({"anonymized_ml": 0.0, "foreground_ml": 1400.0}, SeriesVerdict.NOT_APPLICABLE),  # stripped brain
        ({"anonymized_ml": 0.0, "upper_width_mm": 390.0}, SeriesVerdict.NOT_APPLICABLE),  # chest
        ({"anonymized_ml": 0.0, "height_mm": 20.0}, SeriesVerdict.NOT_APPLICABLE),  # a few slices
        ({"anonymized_ml": 150.0, "upper_width_mm": 390.0}, SeriesVerdict.INDETERMINATE),  # the models disagree
    ],
)
def test_the_rule(changes: dict[str, float], expected: SeriesVerdict) -> None:
    verdict = decide_verdict(SegmentationFacts(**{**HEAD, **changes}))
    assert verdict.verdict is expected
    assert 0.0 <= verdict.probability <= 1.0
    assert verdict.reasons


def test_more_anonymised_area_is_never_less_likely_defaced() -> None:
    found = [decide_verdict(SegmentationFacts(**HEAD, anonymized_ml=ml)) for ml in (20.0, 60.0, 200.0, 900.0)]
    likelihood = [verdict.probability for verdict in found]
    assert likelihood == sorted(likelihood)
    assert likelihood[0] >= 0.5


def test_facts_are_measured_in_millimetres_and_millilitres() -> None:
    foreground = np.zeros((100, 50, 60), bool)  # 2 x 3 x 4 mm: towards head, posterior, left
    foreground[10:90, 5:45, 20:40] = True
    foreground[10:20, 5:45, 2:58] = True  # shoulders, 160 mm below the top
    anonymized = np.zeros_like(foreground)
    anonymized[0, 0, :10] = True
    facts = gather_facts(foreground, anonymized, (2.0, 3.0, 4.0))
    assert facts.foreground_ml == pytest.approx((80 * 40 * 20 + 10 * 40 * 36) * 24 / 1000)
    assert facts.anonymized_ml == pytest.approx(0.24)
    assert facts.height_mm == 160.0
    assert facts.upper_width_mm == 80.0

"""The fit puts no face that it saw above the threshold for defaced."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from inference.verdict.calibration import calibration_from, default_calibration
from inference.verdict.facts import SegmentationFacts
from inference.verdict.verdict import SeriesVerdict, decide_verdict
from training.calibrate_verdict import CALIBRATION, confusion, fit, fit_logistic, without_themselves
from training.evaluation.cases import COVERED, FACE, NONE
from training.evaluation.rows import MaskScores, Row

NO_SCORES = MaskScores(None, None, None, None, None, 0.0)


def made_rows(seed: int = 0) -> list[Row]:
    """Faces with a little false area, covered faces, brains."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(90):
        truth = (FACE, COVERED, NONE)[number % 3]
        coverage = {FACE: rng.uniform(0, 0.25), COVERED: rng.uniform(0.4, 1.0), NONE: 0.0}[truth]
        facts = SegmentationFacts(
            foreground_ml=rng.uniform(1200, 1900) if truth == NONE else rng.uniform(2500, 5500),
            anonymized_ml=300 * coverage,
            height_mm=220.0,
            upper_width_mm=155.0,
            window_share=rng.uniform(0.05, 0.3) if truth == NONE else rng.uniform(0.6, 1.0),
            coverage=coverage,
            face_ml=200 * coverage,
            recess_mm=60 * coverage,
        )
        found.append(row(f"p{number // 6}", truth, facts))
    return found


def row(person: str, truth: str, facts: SegmentationFacts) -> Row:
    return Row(
        case=person, person=person, split="val", modality="MR", contrast="T1", condition="made", truth=truth,
        is_defaced=truth == COVERED, network=NO_SCORES, result=NO_SCORES, otsu_dice=None, zero_run_mm=0.0,
        replaced_ml=0.0, decided_by="network", facts=asdict(facts), weights="w",
    )  # fmt: skip


def test_no_face_of_the_fit_is_called_defaced_and_most_cases_are_right() -> None:
    made = made_rows()
    numbers = calibration_from(fit(made))
    verdicts = {truth: [] for truth in (FACE, COVERED, NONE)}
    for line in made:
        verdicts[line.truth].append(decide_verdict(line.measured, numbers).verdict)
    assert SeriesVerdict.DEFACED not in verdicts[FACE]
    assert verdicts[FACE].count(SeriesVerdict.FACE_PRESENT) >= 20
    assert SeriesVerdict.FACE_PRESENT not in verdicts[COVERED]
    assert verdicts[COVERED].count(SeriesVerdict.DEFACED) >= 20
    assert set(verdicts[NONE]) == {SeriesVerdict.NOT_APPLICABLE}


def test_a_person_is_judged_by_numbers_fitted_to_the_others() -> None:
    made = made_rows()
    odd = row("odd", FACE, SegmentationFacts(4000.0, 250.0, 220.0, window_share=0.9, coverage=0.9, face_ml=190.0,
                                             recess_mm=50.0, upper_width_mm=155.0))  # fmt: skip
    verdicts = {line.person: verdict for line, verdict in without_themselves([*made, odd])}
    assert len(verdicts) == len({line.person for line in made}) + 1
    assert verdicts["odd"].verdict is SeriesVerdict.DEFACED  # its own fit would have put the threshold above it
    assert decide_verdict(odd.measured, calibration_from(fit([*made, odd]))).verdict is not SeriesVerdict.DEFACED
    assert "| face | made |" in confusion(without_themselves(made))


def test_a_logistic_regression_finds_the_middle_and_the_direction() -> None:
    rng = np.random.default_rng(1)
    places = [*rng.normal(2, 1, 200), *rng.normal(6, 1, 200)]
    found = fit_logistic([{"x": float(place)} for place in places], [False] * 200 + [True] * 200)
    assert found["weights"]["x"] > 0.5
    assert -found["bias"] / found["weights"]["x"] == pytest.approx(4.0, abs=0.2)


def test_the_calibration_that_ships_is_one_that_the_script_writes() -> None:
    document = yaml.safe_load((Path(__file__).parents[3] / CALIBRATION).read_text("utf-8"))
    assert document["fitted_on"]["cases"]
    assert calibration_from(document) == default_calibration()
    assert default_calibration().defaced_from >= 0.8
    assert default_calibration().defaced_from > default_calibration().face_present_below

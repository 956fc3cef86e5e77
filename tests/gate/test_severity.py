"""One order for what asks for care."""

from __future__ import annotations

from itertools import pairwise

from dicom_node.gate.severity import VERDICTS, Standing, most_severe
from inference.verdict.verdict import SeriesVerdict


def test_of_two_standings_the_one_that_asks_for_more_care_speaks() -> None:
    assert most_severe({Standing.DEFACED, Standing.FACE_PRESENT}) is Standing.FACE_PRESENT
    assert most_severe({Standing.DEFACED, Standing.INDETERMINATE}) is Standing.INDETERMINATE
    assert most_severe({Standing.NOT_APPLICABLE, Standing.DEFACED}) is Standing.DEFACED
    assert all(most_severe({later, earlier}) is earlier for earlier, later in pairwise(Standing))


def test_every_verdict_of_a_model_has_its_place() -> None:
    assert {verdict.value for verdict in SeriesVerdict} == VERDICTS

"""A verdict that rests on the judge alone is for a person to decide."""

from __future__ import annotations

import pytest

from inference.judge_stage import doubted_if_unconfirmed
from inference.verdict.verdict import SeriesVerdict, Verdict


def verdict(kind: SeriesVerdict) -> Verdict:
    return Verdict(kind, 0.9, ("as found",))


@pytest.mark.parametrize("without", [kind for kind in SeriesVerdict if kind is not SeriesVerdict.DEFACED])
def test_a_face_that_only_the_judge_finds_altered_is_indeterminate(without: SeriesVerdict) -> None:
    found = doubted_if_unconfirmed(verdict(SeriesVerdict.DEFACED), verdict(without), 312.4)
    assert found.verdict is SeriesVerdict.INDETERMINATE
    assert found.reasons == (
        "312 mL look smoothed or exchanged to a network, but no stored value confirms it",
        "as found",
    )


def test_what_stored_values_show_by_themselves_is_not_doubted() -> None:
    defaced = verdict(SeriesVerdict.DEFACED)
    assert doubted_if_unconfirmed(defaced, defaced, 312.4) is defaced


@pytest.mark.parametrize("kind", [kind for kind in SeriesVerdict if kind is not SeriesVerdict.DEFACED])
def test_no_other_verdict_becomes_more_or_less_sure(kind: SeriesVerdict) -> None:
    found = verdict(kind)
    assert doubted_if_unconfirmed(found, verdict(SeriesVerdict.FACE_PRESENT), 312.4) is found

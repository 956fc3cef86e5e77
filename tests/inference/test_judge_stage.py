"""A verdict that rests on the judge alone is for a person to decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.judge.judge import Judgement
from inference.judge_stage import ask_judge, doubted_if_unconfirmed
from inference.models import JudgeScope
from inference.verdict.verdict import SeriesVerdict, Verdict


def verdict(kind: SeriesVerdict) -> Verdict:
    return Verdict(kind, 0.9, ("as found",))


@pytest.mark.parametrize("without", [kind for kind in SeriesVerdict if kind is not SeriesVerdict.DEFACED])
def test_a_face_that_only_the_judge_finds_altered_is_indeterminate(without: SeriesVerdict) -> None:
    found = doubted_if_unconfirmed(verdict(SeriesVerdict.DEFACED), verdict(without), 312.4)
    assert found.verdict is SeriesVerdict.INDETERMINATE
    assert found.reasons == (
        "312 mL look removed or altered to a network, but no stored value confirms it",
        "as found",
    )


def test_what_stored_values_show_by_themselves_is_not_doubted() -> None:
    defaced = verdict(SeriesVerdict.DEFACED)
    assert doubted_if_unconfirmed(defaced, defaced, 312.4) is defaced


@pytest.mark.parametrize("kind", [kind for kind in SeriesVerdict if kind is not SeriesVerdict.DEFACED])
def test_no_other_verdict_becomes_more_or_less_sure(kind: SeriesVerdict) -> None:
    found = verdict(kind)
    assert doubted_if_unconfirmed(found, verdict(SeriesVerdict.FACE_PRESENT), 312.4) is found


@pytest.mark.parametrize(
    ("probability", "is_drawn", "is_sure"), [(0.95, True, True), (0.92, True, False), (0.9, False, False)]
)
def test_the_stage_says_of_an_altered_face_whether_the_judge_is_sure(
    monkeypatch: pytest.MonkeyPatch, probability: float, is_drawn: bool, is_sure: bool
) -> None:
    body = np.zeros((60, 60, 60), bool)
    body[:, 10:] = True
    face = np.zeros(body.shape, bool)
    face[10:40, 10:30, 10:50] = True  # 192 mL
    replaced = face * np.float32(probability)
    nothing = np.zeros_like(replaced)
    judgement = Judgement(np.stack([1 - replaced, nothing, nothing, replaced]), (slice(60), slice(60), slice(60)))
    monkeypatch.setattr("inference.judge_stage.judge_volume", lambda *_: judgement)
    monkeypatch.setattr("inference.judge_stage.decide_verdict", lambda _: verdict(SeriesVerdict.FACE_PRESENT))
    found = ask_judge(
        np.zeros(body.shape, np.float32),
        (2.0, 2.0, 2.0),
        body,
        np.zeros_like(body),
        [torch.zeros(4, 8, 8, 8)],
        torch.nn.Identity(),
        JudgeScope.ALTERED,
    )
    assert found.area is None  # a judge of alterations draws nothing else
    assert found.altered is not None
    np.testing.assert_array_equal(found.altered, face if is_drawn else np.zeros_like(face))
    assert found.is_sure == is_sure

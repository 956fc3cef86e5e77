"""The evaluation of pretraining: its comparisons can fail, and its cuts and targets are what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.pretraining.cases import TARGET_LABELS, Case, LabelHead, draw_batch, render, targets_of
from benchmarks.pretraining.heads import CUT_SHARES, cut_face
from benchmarks.pretraining.protocol import PROTOCOLS, TARGETS, Start
from benchmarks.pretraining.starts import task_loss
from benchmarks.pretraining.summary import (
    complete_seeds,
    entropy_of_frequencies,
    paired_difference,
    pretext_verdict,
    summarize,
    verdict,
)
from benchmarks.pretraining.tables import report


def test_a_difference_is_paired_by_seed_and_person() -> None:
    rng = np.random.default_rng(1)
    base = rng.uniform(0.1, 0.9, (5, 6))  # people differ far more than starts do
    found = paired_difference(base + 0.02 + 0.001 * rng.normal(size=base.shape), base)
    assert found.mean == pytest.approx(0.02, abs=0.001)
    assert 0.018 < found.low < found.high < 0.022


def test_noise_is_no_difference() -> None:
    rng = np.random.default_rng(2)
    found = paired_difference(rng.normal(0, 0.1, (4, 6)), rng.normal(0, 0.1, (4, 6)))
    assert found.low < 0 < found.high


def test_one_lucky_seed_is_not_enough() -> None:
    base = np.zeros((4, 6))
    lucky = base + np.array([[0.4], [0.0], [0.0], [-0.01]])
    assert paired_difference(lucky, base).low < 0


def test_seeds_that_are_not_complete_are_not_compared() -> None:
    runs = dict.fromkeys((start, seed) for start in Start for seed in (0, 1))
    del runs[Start.PERMUTED, 1]
    assert complete_seeds(runs) == [0]


def summary_of(gain: float, supervised: float) -> dict[str, object]:
    base = np.random.default_rng(3).uniform(0.4, 0.6, (4, 6))
    gains = {Start.VOLUME_FUSION: gain, Start.ANATOMASK: gain, Start.SUPERVISED: supervised}
    noise = np.random.default_rng(4).normal(0, 0.003, base.shape)
    starts = {
        start.value: {"to_scratch": {"dice at 40": paired_difference(base + gains.get(start, 0.0) + noise, base)}}
        for start in Start
    }
    return {"starts": starts}


def test_the_verdict_can_fail_and_pass() -> None:
    assert verdict(summary_of(0.05, 0.1), 40) == {
        "volume-fusion gains": True,
        "anatomask gains": True,
        "permuted weights do not gain": True,
        "supervised weights gain": True,
    }
    failed = verdict(summary_of(-0.05, -0.01), 40)
    assert not failed["anatomask gains"]
    assert not failed["supervised weights gain"]


def test_a_pretext_task_must_beat_the_trivial_answers() -> None:
    learned = {"cross_entropy": 1.3, "accuracy": 0.51, "majority_share": 0.44}
    assert all(pretext_verdict({"volume-fusion": {"held_out": learned}}).values())
    guessed = {**learned, "accuracy": 0.47}  # above the share of class 0, by 3 points only
    assert list(pretext_verdict({"volume-fusion": {"held_out": guessed}}).values()) == [True, True, False]
    counted = {**learned, "cross_entropy": 1.46}  # knows how frequent the classes are, and nothing else
    assert list(pretext_verdict({"volume-fusion": {"held_out": counted}}).values()) == [True, False, True]
    found = pretext_verdict({"anatomask": {"held_out": {"loss": 0.97, "patch_body_share": 0.8}}, "control": {}})
    assert found == {"anatomask: loss < 0.95": False, "anatomask: body share of patches >= 0.75": True}


def test_equal_frequencies_have_the_entropy_of_guessing() -> None:
    assert entropy_of_frequencies(0.2) == pytest.approx(math.log(5))
    assert entropy_of_frequencies(0.43) == pytest.approx(1.474, abs=0.001)


def test_a_report_without_runs_says_nothing_of_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert "Fine-tuning" not in report(summarize(tmp_path, PROTOCOLS["tiny"]))


def test_a_cut_takes_the_front_and_the_asked_share_of_the_body() -> None:
    z, y, x = np.indices((40, 50, 44))
    body = (z - 20) ** 2 + (y - 25) ** 2 + (x - 22) ** 2 < 18**2
    for seed in range(5):
        cut = cut_face(body, np.random.default_rng(seed))
        share = (cut & body).sum() / body.sum()
        assert CUT_SHARES[0] - 0.01 < share < CUT_SHARES[1] + 0.01
        assert (
            np.argwhere(cut & body)[:, 1].mean() < np.argwhere(body)[:, 1].mean() - 8
        )  # rows increase towards the back


def test_targets_are_numbered_in_the_order_of_their_names() -> None:
    assert len(TARGET_LABELS) == len(TARGETS)
    assert targets_of(np.array([0, 2, 41, 3, 42, 16, 47, 4, 10, 506.0], np.float32)).tolist() == [
        *(0, 1, 1, 2, 2, 3, 3, 4, 4, 0),
    ]


def test_a_rendered_head_is_cropped_to_its_brain_and_fits_the_network() -> None:
    groups, target = np.zeros((40, 44, 42), np.uint8), np.zeros((40, 44, 42), np.uint8)
    groups[4:36, 4:40, 4:38] = 7
    groups[20:34, 10:30, 12:32], target[20:34, 10:30, 12:32] = 1, 1
    case = render(LabelHead("one", groups, target), np.random.default_rng(1))
    assert case.image.shape == case.target.shape
    assert [size % 8 for size in case.image.shape] == [0, 0, 0]
    assert case.target.sum() == target.sum()


def test_every_start_of_a_seed_sees_the_same_batches() -> None:
    rng = np.random.default_rng(5)
    cases = [
        Case(str(n), rng.normal(size=(20, 24, 20)).astype(np.float32), np.zeros((20, 24, 20), np.uint8)) for n in (1, 2)
    ]
    first, second = (draw_batch(cases, 2, 16, np.random.default_rng((3, 2, 7))) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert first[0].shape == (2, 1, 16, 16, 16)
    assert first[1].shape == (2, 16, 16, 16)


def test_the_loss_of_a_perfect_answer_is_0() -> None:
    targets = torch.randint(0, 5, (2, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    logits = 40.0 * torch.nn.functional.one_hot(targets, 5).movedim(-1, 1).float()
    assert float(task_loss(logits, targets)) == pytest.approx(0, abs=1e-3)
    assert float(task_loss(torch.zeros_like(logits), targets)) > 1.6 + 0.5

"""The numbers of the released code over 1000 epochs."""

from __future__ import annotations

import pytest
import torch

from pretraining.anatomask.blocks import hard_count
from pretraining.anatomask.schedules import hard_share, learning_rate_schedule, teacher_decay


@pytest.mark.parametrize(
    ("epoch", "n_hard"),
    [(0, 0), (7, 0), (8, 1), (99, 11), (249, 29), (499, 58), (749, 88), (999, 117)],
)
def test_blocks_are_chosen_by_importance_from_easy_to_hard(epoch: int, n_hard: int) -> None:
    assert hard_count(235, hard_share(epoch, 1000)) == n_hard


@pytest.mark.parametrize(("epoch", "decay"), [(0, 0.999), (125, 0.99945), (250, 0.9999), (999, 0.9999)])
def test_the_teacher_remembers_longer_after_the_first_quarter(epoch: int, decay: float) -> None:
    assert teacher_decay(epoch, 1000) == pytest.approx(decay, abs=1e-12)


def test_the_learning_rate_is_that_of_the_authors_scheduler() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    schedule = learning_rate_schedule(optimizer, 1000, warm_up=20)
    rates = []
    for _ in range(1000):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1e-6, rel=1e-6)
    assert rates[10] == pytest.approx(5.311e-5, rel=1e-3)
    assert rates[19] == pytest.approx(1e-4, rel=1e-9)
    assert rates[20] == pytest.approx(1e-4, rel=1e-9)
    assert rates[510] == pytest.approx(5e-5, rel=1e-6)
    assert rates[999] == pytest.approx(2.6e-10, rel=0.02)


def test_a_run_of_a_few_steps_has_a_schedule() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    assert learning_rate_schedule(optimizer, 5, warm_up=0).get_last_lr() == [1e-4]
    assert hard_share(0, 1) == 0.5

"""How AnatoMask's hard share, its teacher's memory and its learning rate change over a run.

References
----------
Y. Li et al., AnatoMask, ECCV (2024), and its released code for one GPU, whose numbers these are. There ``total`` counts
epochs, 1000 of them, of which the warm-up takes 20.
"""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

MOST_HARD = 0.5


def hard_share(done: int, total: int) -> float:
    """Return the share of hidden blocks that are chosen by importance after ``done`` of ``total``; easy to hard.

    The released code passes ``total - 1``, so the last value is a little above one half; kept, as the numbers of
    blocks are published with it.
    """
    return MOST_HARD * (done + 1) / max(total - 1, 1)


def teacher_decay(done: int, total: int, *, start: float = 0.999, end: float = 0.9999) -> float:
    """Return the decay of the teacher's moving average: linear over the first quarter, then constant."""
    return start + (end - start) * min(1.0, 4 * done / total)


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer, total: int, *, warm_up: int, start_factor: float = 0.01
) -> LRScheduler:
    """Return a linear warm-up to the optimiser's rate, reached one before ``warm_up``, then a cosine to 0 at ``total``.

    Parameters
    ----------
    start_factor
        First rate as a share of the optimiser's.
    """
    if warm_up < 2:
        return CosineAnnealingLR(optimizer, T_max=total)
    rising = LinearLR(optimizer, start_factor=start_factor, total_iters=warm_up - 1)
    falling = CosineAnnealingLR(optimizer, T_max=total - warm_up)
    return SequentialLR(optimizer, [rising, falling], milestones=[warm_up])

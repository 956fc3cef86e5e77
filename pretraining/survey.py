"""Say what a run will see before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretraining.dataset import Shape, StoredVolume
from pretraining.draws import draw_start

N_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Survey:
    """Numbers of a dataset.

    Attributes
    ----------
    body_share
        Mean share of unaltered body in patches, drawn as the run draws them.
    altered_share
        Mean over the volumes, of body and altered area together.
    """

    n_volumes: int
    n_refused: int
    body_share: float
    altered_share: float


def survey(volumes: Sequence[StoredVolume], n_refused: int, patch: Shape, *, use_masks: bool) -> Survey:
    """Look at the volumes by their tables; no image is read."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(N_DRAWS):
        volume = volumes[int(rng.integers(len(volumes)))]
        start = draw_start(volume, patch, rng, use_masks=use_masks)
        shares.append(volume.body_share(np.array([start]), patch)[0])
    altered = [float(volume.record["altered_share"]) for volume in volumes]
    return Survey(len(volumes), n_refused, float(np.mean(shares)), float(np.mean(altered)))

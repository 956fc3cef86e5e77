"""A stand-in for the networks: the body is what is denser than air."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from inference.models import ModelIdentity
from inference.segment import Segmentation
from inference.series.volume import SourceVolume
from inference.verdict.verdict import SeriesVerdict, Verdict

MODELS = (
    ModelIdentity("foreground", "threshold", "1", "a" * 64),
    ModelIdentity("anonymized", "threshold", "1", "b" * 64),
)
BODY_ABOVE_HU = -300.0


def threshold(
    source: SourceVolume,
    _models: object,
    *,
    on_stage: Callable[[str], None] | None = None,
    on_share: Callable[[float], None] | None = None,
    verdict: SeriesVerdict = SeriesVerdict.DEFACED,
) -> Segmentation:
    """Stands in for the networks: the body is what is denser than air."""
    if on_stage is not None:
        on_stage("segment foreground")
    if on_share is not None:
        on_share(0.5)
    body = source.volume.array > BODY_ABOVE_HU
    return Segmentation(
        foreground=body,
        anonymized=np.zeros_like(body),
        verdict=Verdict(verdict, 0.9, ("made up",)),
        decided_by={"foreground": "network", "anonymized": "network"},
        models=MODELS,
        timings_s={},
    )

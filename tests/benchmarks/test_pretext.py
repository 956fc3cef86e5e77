"""A longer pretext run that is stopped goes on from its last measurement to the same result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.pretraining import pretext
from benchmarks.pretraining.protocol import PROTOCOLS
from benchmarks.pretraining.starts import PretextLearner
from tests.pretraining.volumes import array_volume

STEPS = 6


class StoppedError(Exception):
    """The run was stopped."""


@pytest.mark.parametrize("method", ["volume-fusion", "anatomask"])
def test_a_stopped_run_ends_as_if_it_had_not_been_stopped(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretext, "read_heads", lambda *_: [array_volume(seed) for seed in range(2)])
    monkeypatch.setattr(pretext, "MEASURE_EVERY", 2)
    monkeypatch.setattr(pretext, "N_BATCHES", 1)
    protocol = replace(PROTOCOLS["tiny"], pretraining_steps={method: STEPS})
    whole = pretext.learn(protocol, method, tmp_path, tmp_path / "whole", use_masks=True)

    take = PretextLearner.take

    def stop(learner: PretextLearner, step: int, *others: object) -> dict[str, float]:
        if step == 3:
            raise StoppedError
        return take(learner, step, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(PretextLearner, "take", stop)
    with pytest.raises(StoppedError):
        pretext.learn(protocol, method, tmp_path, tmp_path / "stopped", use_masks=True)
    monkeypatch.setattr(PretextLearner, "take", take)
    again = pretext.learn(protocol, method, tmp_path, tmp_path / "stopped", use_masks=True)

    assert [line["step"] for line in whole] == [2, 4, 6]
    assert [line["held"] for line in again] == [line["held"] for line in whole]
    assert next((tmp_path / "stopped").rglob("curve.png")).stat().st_size > 1000

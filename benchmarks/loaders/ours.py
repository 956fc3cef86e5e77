"""Our loaders, as ``pretrain`` uses them: ``python -m benchmarks.loaders.ours WORK METHOD PATCH``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from benchmarks.loaders.measure import BATCH_SIZE, N_BATCHES, N_WARM, N_WORKERS, measure, tell
from pretraining.methods import METHODS, build
from pretraining.networks import NetworkPlan, plan_from_preset
from pretraining.patches import Samples, StepKeys, batches
from pretraining.prepare_all import prepare_dataset
from pretraining.request import prepare_settings

N_SPARE = 20  # batches that are asked for but not waited for


def plan_at_1_mm(patch: int) -> NetworkPlan:
    """Return a residual network with this patch at 1 mm."""
    plans = plan_from_preset("small-residual").plans
    (name,) = plans["configurations"]
    changed = {"patch_size": [patch] * 3, "spacing": [1.0] * 3, "batch_size": BATCH_SIZE}
    return NetworkPlan({**plans, "configurations": {name: {**plans["configurations"][name], **changed}}})


def main(work: Path, method: str, patch: int) -> None:
    """Prepare the dataset unless it is, then load."""
    torch.set_num_threads(1)
    plan = plan_at_1_mm(patch)
    prepared = prepare_dataset(work / "dataset", prepare_settings(plan, use_masks=True), plan.patch_size)
    sampler = build(method, METHODS[method].options(), plan, use_masks=True).sampler
    keys = StepKeys(0, N_WARM + N_BATCHES + N_SPARE, BATCH_SIZE)
    samples = Samples(prepared.volumes, sampler, seed=0)
    tell(measure(batches(samples, keys, workers=N_WORKERS, device=torch.device("cpu"))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

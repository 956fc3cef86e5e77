"""Compare starts with training from scratch: paired differences with intervals over seeds and people."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.pretraining.protocol import TARGETS, Protocol, Start

N_RESAMPLES = 5000
COMPARED = ((Start.VOLUME_FUSION, Start.VOLUME_FUSION_PLAIN), (Start.ANATOMASK, Start.ANATOMASK_PLAIN))

# What a pretraining must reach on held-out heads. One who guesses has a cross-entropy of ln 5 = 1.609, one who knows
# how frequent the classes are has 1.47; predicting 0 has a restoring loss of 1; one who answers "class 0" everywhere
# has the majority share as accuracy.
MOST_CROSS_ENTROPY = 1.5
LEAST_BELOW_FREQUENCIES = 0.05
LEAST_ABOVE_MAJORITY = 0.05
MOST_RESTORING_LOSS = 0.95
LEAST_BODY_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired mean difference and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def paired_difference(values: NDArray[np.float64], base: NDArray[np.float64]) -> Difference:
    """Return the mean of ``values - base`` and its interval by a bootstrap over seeds and people.

    Parameters
    ----------
    values, base
        (seed, person); the same seeds, batches and people in the same places.
    """
    difference = values - base
    rng = np.random.default_rng(0)
    n_seeds, n_people = difference.shape
    seeds = rng.integers(n_seeds, size=(N_RESAMPLES, n_seeds))
    people = rng.integers(n_people, size=(N_RESAMPLES, n_people))
    means = difference[seeds[:, :, None], people[:, None, :]].mean((1, 2))
    low, high = np.percentile(means, (2.5, 97.5))
    return Difference(float(difference.mean()), float(low), float(high))


def read_runs(work: Path) -> dict[tuple[Start, int], dict[str, Any]]:
    """Return the finished runs by start and seed."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted((work / "runs").glob("*.json"))]
    return {(Start(run["start"]), int(run["seed"])): run for run in runs}


def complete_seeds(runs: Mapping[tuple[Start, int], Any]) -> list[int]:
    """Return the seeds that have a run of every start; others are not compared."""
    return [seed for seed in sorted({seed for _, seed in runs}) if all((start, seed) in runs for start in Start)]


def values_of(
    runs: Mapping[tuple[Start, int], dict[str, Any]], start: Start, seeds: list[int], step: int, what: str
) -> NDArray[np.float64]:
    """Return mean Dice over the targets, or cross-entropy, as (seed, person)."""
    table = []
    for seed in seeds:
        rows = sorted((row for row in runs[start, seed]["rows"] if row["step"] == step), key=lambda row: row["person"])
        table.append([float(np.mean(row[what])) for row in rows])
    return np.array(table)


def summarize(work: Path, protocol: Protocol) -> dict[str, Any]:
    """Return every table of the report as plain values."""
    runs = read_runs(work)
    seeds = complete_seeds(runs)
    summary: dict[str, Any] = {"protocol": _plain(protocol), "seeds": seeds, "starts": {}, "mask_effect": {}}
    summary["pretext"] = {
        path.parent.name: json.loads(path.read_text("utf-8"))
        for path in sorted((work / "starts").glob("*/measured.json"))
    }
    summary["pretext_verdict"] = pretext_verdict(summary["pretext"])
    summary["cpu_s"] = sum(float(run["cpu_s"]) for run in runs.values())
    if not seeds:
        return summary
    steps = sorted({row["step"] for row in runs[Start.SCRATCH, seeds[0]]["rows"]})
    half, end = steps[0], steps[-1]
    for start in Start:
        summary["starts"][start.value] = _start(runs, start, seeds, steps, half, end)
    for masked, plain in COMPARED:
        summary["mask_effect"][masked.value] = {
            f"{what} at {step}": paired_difference(
                values_of(runs, masked, seeds, step, what), values_of(runs, plain, seeds, step, what)
            )
            for what in ("dice", "cross_entropy")
            for step in (half, end)
        }
    summary["verdict"] = verdict(summary, half)
    summary["half"], summary["end"] = half, end
    return summary


def _start(
    runs: Mapping[tuple[Start, int], dict[str, Any]],
    start: Start,
    seeds: list[int],
    steps: list[int],
    half: int,
    end: int,
) -> dict[str, Any]:
    dice = {step: values_of(runs, start, seeds, step, "dice") for step in steps}
    scratch_end = values_of(runs, Start.SCRATCH, seeds, end, "dice").mean()
    reached = [step for step in steps if dice[step].mean() >= scratch_end]
    per_target = [
        float(
            np.mean([row["dice"][target] for seed in seeds for row in runs[start, seed]["rows"] if row["step"] == end])
        )
        for target in range(len(TARGETS))
    ]
    found: dict[str, Any] = {
        "rate": runs[start, seeds[0]]["rate"],
        "dice": {step: float(dice[step].mean()) for step in steps},
        "cross_entropy": {step: float(values_of(runs, start, seeds, step, "cross_entropy").mean()) for step in steps},
        "dice_per_target": dict(zip(TARGETS, per_target, strict=True)),
        "reaches_scratch_at": reached[0] if reached else None,
        "to_scratch": defaultdict(dict),
    }
    for what in ("dice", "cross_entropy"):
        for step in (half, end):
            base = values_of(runs, Start.SCRATCH, seeds, step, what)
            found["to_scratch"][f"{what} at {step}"] = paired_difference(
                values_of(runs, start, seeds, step, what), base
            )
    return found


def verdict(summary: Mapping[str, Any], half: int) -> dict[str, bool]:
    """Return what passed: gains at half of the steps, and whether both controls allow a reading."""
    at_half = {start: found["to_scratch"][f"dice at {half}"] for start, found in summary["starts"].items()}
    return {
        "volume-fusion gains": at_half[Start.VOLUME_FUSION].low > 0,
        "anatomask gains": at_half[Start.ANATOMASK].low > 0,
        "permuted weights do not gain": at_half[Start.PERMUTED].low <= 0,
        "supervised weights gain": at_half[Start.SUPERVISED].low > 0,
    }


def pretext_verdict(pretext: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether each pretraining learned more than a trivial answer, on held-out heads."""
    found: dict[str, bool] = {}
    for name, measured in pretext.items():
        held_out = measured.get("held_out", {})
        if "accuracy" in held_out:
            found[f"{name}: cross-entropy < {MOST_CROSS_ENTROPY}"] = held_out["cross_entropy"] < MOST_CROSS_ENTROPY
            most = entropy_of_frequencies(held_out["majority_share"]) - LEAST_BELOW_FREQUENCIES
            found[f"{name}: cross-entropy < that of the classes' frequencies - {LEAST_BELOW_FREQUENCIES}"] = (
                held_out["cross_entropy"] < most
            )
            found[f"{name}: accuracy > majority share + {LEAST_ABOVE_MAJORITY}"] = (
                held_out["accuracy"] > held_out["majority_share"] + LEAST_ABOVE_MAJORITY
            )
        elif held_out:
            found[f"{name}: loss < {MOST_RESTORING_LOSS}"] = held_out["loss"] < MOST_RESTORING_LOSS
            found[f"{name}: body share of patches >= {LEAST_BODY_SHARE}"] = (
                held_out["patch_body_share"] >= LEAST_BODY_SHARE
            )
    return found


def entropy_of_frequencies(majority_share: float, n_others: int = 4) -> float:
    """Return the cross-entropy of one who knows the share of class 0, and that the others are equally frequent."""
    other = (1 - majority_share) / n_others
    return -majority_share * math.log(majority_share) - (1 - majority_share) * math.log(other)


def _plain(protocol: Protocol) -> dict[str, Any]:
    return {name: getattr(protocol, name) for name in protocol.__slots__}

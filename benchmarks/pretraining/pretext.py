"""How well a pretext task is learned in a longer run, measured on held-out heads on the way.

    python -m benchmarks.pretraining.pretext volume-fusion --data ../shared/data --work build/bench-pretraining

Stopped, the same command goes on from its last measurement. Writes ``pretext/METHOD-PATCH-STEPS/curve.jsonl`` below the
work folder, draws ``curve.png`` beside it, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.pretraining.heads import read_heads, without_masks
from benchmarks.pretraining.plots import draw_curve
from benchmarks.pretraining.protocol import PROTOCOLS, Protocol
from benchmarks.pretraining.starts import PretextLearner, build_method, mean_of, measure_pretext
from benchmarks.pretraining.tables import table

log = logging.getLogger(__name__)
MEASURE_EVERY = 500
N_BATCHES = 24  # measured each time, always the same
FIRST_BATCH = 10_000_000  # far from those of the training


def learn(protocol: Protocol, name: str, data: Path, work: Path, *, use_masks: bool) -> list[dict[str, Any]]:
    """Learn, or go on; return a line for each measurement."""
    train, held_out = read_heads(data, work, "train"), read_heads(data, work, "val")
    if not use_masks:
        train, held_out = ([without_masks(volume) for volume in volumes] for volumes in (train, held_out))
    n_steps = protocol.pretraining_steps[name]
    folder = work / "pretext" / f"{name}{'' if use_masks else '-no-masks'}-{protocol.patch}-{n_steps}"
    folder.mkdir(parents=True, exist_ok=True)
    state, curve = folder / "state.pt", folder / "curve.jsonl"
    learner = PretextLearner(build_method(protocol, name, use_masks=use_masks), n_steps)
    first, cpu_s = 0, 0.0
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        learner.method.module.load_state_dict(kept["module"])
        learner.method.load_state_dict(kept["method"])
        learner.optimizer.load_state_dict(kept["optimizer"])
        learner.schedule.load_state_dict(kept["schedule"])
        first, cpu_s = kept["steps"], kept["cpu_s"]
    lines, began = [], time.process_time()
    for step in range(first, n_steps):
        lines.append(learner.take(step, train, protocol.batch_size))
        done = step + 1
        if done % MEASURE_EVERY and done != n_steps:
            continue
        spent_s = cpu_s + time.process_time() - began
        held = measure_pretext(learner.method, protocol, held_out, FIRST_BATCH, n_batches=N_BATCHES)
        line = {"step": done, "cpu_s": spent_s, "train": mean_of(lines), "held": held}
        with curve.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        log.info("%s step %d: %s", name, done, held)
        part = state.with_suffix(".part")
        kept = {
            "module": learner.method.module.state_dict(),
            "method": learner.method.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "schedule": learner.schedule.state_dict(),
        }
        torch.save({**kept, "steps": done, "cpu_s": spent_s}, part)
        part.replace(state)
        lines = []
    found = [json.loads(each) for each in curve.read_text("utf-8").splitlines()]
    draw_curve(found, folder / "curve.png")
    return found


def main() -> None:
    """Parse the command line, learn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["volume-fusion", "anatomask"])
    parser.add_argument("--data", type=Path, required=True, help="folder with volumes.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--patch", type=int, default=40, help="voxels along each axis")
    parser.add_argument("--no-masks", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    protocol = replace(PROTOCOLS["full"], patch=options.patch, pretraining_steps={options.method: options.steps})
    found = learn(protocol, options.method, options.data, options.work, use_masks=not options.no_masks)
    keys = list(found[0]["held"])  # type: ignore[call-overload]
    rows = [
        [str(line["step"]), f"{line['cpu_s']:.0f}", *(f"{line['held'][key]:.3f}" for key in keys)] for line in found
    ]  # type: ignore[index]
    print(table(["steps", "CPU s", *(key.replace("_", " ") for key in keys)], rows))


if __name__ == "__main__":
    main()

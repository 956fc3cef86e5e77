"""Fine-tune a start on few rendered heads, and measure it on other people while it learns."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from torch import nn

from benchmarks.pretraining.cases import Case, LabelHead, LabelHeads, render
from benchmarks.pretraining.protocol import TARGETS, Protocol, Start
from benchmarks.pretraining.starts import learn, plan_of
from pretraining.networks import build_network

log = logging.getLogger(__name__)
MOMENTS = (0.5, 0.75, 1.0)  # of the steps, at which a network is measured
CHOICE_SEED = 1000


def choose_rate(start: Start, checkpoint: Path | None, heads: LabelHeads, protocol: Protocol, work: Path) -> float:
    """Return the rate with which a start has the higher mean Dice on the heads that are kept for this."""
    scores = {
        rate: _run(start, checkpoint, heads, protocol, work / "rates", seed=CHOICE_SEED, rate=rate, is_choice=True)
        for rate in protocol.rates
    }
    return max(scores, key=lambda rate: _mean_dice(scores[rate]))


def tune(
    start: Start, checkpoint: Path | None, heads: LabelHeads, protocol: Protocol, work: Path, *, seed: int, rate: float
) -> None:
    """Run one start with one seed, unless its result is there."""
    _run(start, checkpoint, heads, protocol, work / "runs", seed=seed, rate=rate)


def _run(
    start: Start,
    checkpoint: Path | None,
    heads: LabelHeads,
    protocol: Protocol,
    folder: Path,
    *,
    seed: int,
    rate: float,
    is_choice: bool = False,
) -> list[dict[str, object]]:
    path = folder / f"{start.value}-{seed}-{rate:g}.json"
    if not path.is_file():
        began = time.process_time()
        tested = heads.choice if is_choice else heads.test
        n_steps = protocol.rate_steps if is_choice else protocol.tuning_steps
        network = load_start(checkpoint, protocol, seed)
        cases = test_cases(tested)
        rows: list[dict[str, object]] = []
        points = {round(n_steps * at): at for at in (MOMENTS[-1:] if is_choice else MOMENTS)}
        after = {
            step: lambda step=step: rows.extend({**row, "step": step} for row in measure(network, cases))
            for step in points
        }
        losses = learn(network, heads.train, n_steps, protocol, rate=rate, seed=seed, after=after)
        content = {
            "start": start.value,
            "seed": seed,
            "rate": rate,
            "rows": rows,
            "losses": losses,
            "cpu_s": time.process_time() - began,
        }
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(content), "utf-8")
        part.replace(path)
        log.info("%s: Dice %.3f after %.0f s of a core", path.stem, _mean_dice(rows), content["cpu_s"])
    found: list[dict[str, object]] = json.loads(path.read_text("utf-8"))["rows"]
    return found


def load_start(checkpoint: Path | None, protocol: Protocol, seed: int) -> nn.Module:
    """Return the network of a start; weights arrive through nnU-Net's own loader."""
    torch.manual_seed(seed)
    network = build_network(plan_of(protocol), n_classes=len(TARGETS) + 1)
    if checkpoint is not None:
        load_pretrained_weights(network, str(checkpoint / "checkpoint_final.pth"))
    return network


def test_cases(heads: tuple[LabelHead, ...]) -> list[Case]:
    """Return one rendering of each head, the same for every start and seed."""
    return [render(head, np.random.default_rng((77, number))) for number, head in enumerate(heads)]


@torch.no_grad()
def measure(network: nn.Module, cases: list[Case]) -> list[dict[str, object]]:
    """Return the Dice of each target and the cross-entropy of each person, in one pass over the cropped head."""
    network.eval()
    rows: list[dict[str, object]] = []
    for case in cases:
        logits = network(torch.from_numpy(case.image)[None, None])[0]
        target = torch.from_numpy(case.target.astype(np.int64))
        found = logits.argmax(0)
        dice = []
        for number in range(1, len(TARGETS) + 1):
            both = float(((found == number) & (target == number)).sum())
            dice.append(2 * both / float((found == number).sum() + (target == number).sum()))
        entropy = float(nn.functional.cross_entropy(logits[None], target[None]))
        rows.append({"person": case.id, "dice": dice, "cross_entropy": entropy})
    return rows


def _mean_dice(rows: list[dict[str, object]]) -> float:
    last = max(int(str(row["step"])) for row in rows)
    return float(np.mean([row["dice"] for row in rows if row["step"] == last]))

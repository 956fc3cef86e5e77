"""Pretrain, fine-tune and compare; every run is kept, so the same command continues where it was stopped.

    python -m benchmarks.pretraining --data ../shared/data --work build/bench-pretraining

Writes ``summary.json`` and ``pretraining.png`` into the work folder, and prints the tables of
``docs/models/pretraining.md``.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict, is_dataclass
from pathlib import Path

import torch

from benchmarks.pretraining.cases import read_label_heads
from benchmarks.pretraining.plots import draw
from benchmarks.pretraining.protocol import PRETRAINED, PROTOCOLS, Protocol, Start
from benchmarks.pretraining.starts import permute, pretrain, supervise
from benchmarks.pretraining.summary import summarize
from benchmarks.pretraining.tables import report
from benchmarks.pretraining.tuning import choose_rate, tune


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with volumes.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="full")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report-only", action="store_true", help="report what is there")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    protocol, work = PROTOCOLS[options.protocol], options.work / options.protocol
    if not options.report_only:
        run_all(protocol, options.data, work)
    summary = summarize(work, protocol)
    (work / "summary.json").write_text(json.dumps(summary, indent=1, default=_encode), "utf-8")
    if summary["seeds"]:
        draw(summary, work / "pretraining.png")
    print(report(summary))


def run_all(protocol: Protocol, data: Path, work: Path) -> None:
    """Make all starts, choose a rate for each, then run seed by seed."""
    heads = read_label_heads(data, work, protocol)
    checkpoints: dict[Start, Path | None] = {Start.SCRATCH: None}
    for start in PRETRAINED:
        checkpoints[start] = pretrain(start, protocol, data, work)
    checkpoints[Start.SUPERVISED] = supervise(protocol, heads.control, work)
    checkpoints[Start.PERMUTED] = permute(work / "starts" / Start.VOLUME_FUSION.value, protocol, work)
    rates = {start: choose_rate(start, checkpoints[start], heads, protocol, work) for start in Start}
    for seed in protocol.seeds:
        for start in Start:
            tune(start, checkpoints[start], heads, protocol, work, seed=seed, rate=rates[start])


def _encode(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(type(value).__name__)


if __name__ == "__main__":
    main()

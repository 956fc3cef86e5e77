"""Pretrain, fine-tune and compare; every run is kept, so the same command continues where it was stopped.

    python -m benchmarks.pretraining --data ../shared/data --work build/bench-pretraining

Writes ``summary.json`` and ``pretraining.png`` into the work folder, and prints the tables of
``docs/models/pretraining.md``.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, is_dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.pretraining.plots import draw
from benchmarks.pretraining.protocol import PROTOCOLS
from benchmarks.pretraining.stages import run_all, start_worker
from benchmarks.pretraining.summary import summarize
from benchmarks.pretraining.tables import report


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with volumes.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="full")
    parser.add_argument("--jobs", type=int, default=2, help="starts and runs at once, each in a process of one thread")
    parser.add_argument("--report-only", action="store_true", help="report what is there")
    options = parser.parse_args()
    protocol, work = PROTOCOLS[options.protocol], options.work / options.protocol
    if not options.report_only:
        with ProcessPoolExecutor(options.jobs, get_context("spawn"), start_worker) as pool:
            run_all(protocol, options.data, work, pool)
    summary = summarize(work, protocol)
    (work / "summary.json").write_text(json.dumps(summary, indent=1, default=_encode), "utf-8")
    if summary["seeds"]:
        draw(summary, work / "pretraining.png")
    print(report(summary))


def _encode(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(type(value).__name__)


if __name__ == "__main__":
    main()

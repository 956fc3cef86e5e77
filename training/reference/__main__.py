"""Train both reference models, or resume: ``python -m training.reference --data ../shared/data --work WORK``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from training.reference.loop import Settings, export_checkpoint, train


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with volumes.csv")
    parser.add_argument("--work", type=Path, required=True, help="stored labels, registrations and checkpoint")
    parser.add_argument("--models", type=Path, default=Path("inference/reference"), help="where the models are written")
    parser.add_argument(
        "--minutes",
        type=float,
        default=Settings().minutes,
        help="of the whole run; a larger value continues a finished run",
    )
    parser.add_argument(
        "--export-only", action="store_true", help="write the models of the checkpoint without training"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=Settings().seed)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    settings = Settings(minutes=arguments.minutes, seed=arguments.seed)
    if arguments.export_only:
        export_checkpoint(arguments.work, arguments.models, settings)
        return
    train(arguments.data, arguments.work, arguments.models, settings)


if __name__ == "__main__":
    main()

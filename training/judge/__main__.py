"""Train the judge: ``python -m training.judge train --data ../shared/data --work runs/judge --cohort data/cohort``.

The training process starts a second one that simulates cases; ``simulate`` runs only this second one. Both may be
interrupted at any time; run the same command again to resume. ``export`` writes the weights of the checkpoint to
``--weights``, from which a run without a checkpoint continues; with ``--ship VERSION`` it also puts them into the model
of the anonymised area in ``--models``.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from training.judge.cases import SHARES
from training.judge.export import export_judge, ship_judge
from training.judge.loop import Settings, resume, simulator_command, train
from training.judge.simulate import COUNTER_FILE, simulate, simulated_core_s


def main() -> None:
    """Parse the command line and run the chosen action."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "simulate", "export"])
    parser.add_argument("--data", type=Path, required=True, help="folder with volumes.csv")
    parser.add_argument("--cohort", type=Path, required=True, help="stored labels, registrations and geometry")
    parser.add_argument("--work", type=Path, required=True, help="checkpoint and simulated patches")
    parser.add_argument("--models", type=Path, default=Path("inference/reference"), help="the 3 mm networks")
    parser.add_argument("--weights", type=Path, default=Path("training/judge/weights"), help="exported weights")
    parser.add_argument("--seed", type=int, default=Settings().seed)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="stop at this step, counted over the whole run")
    parser.add_argument("--cool-down", type=int, default=0, metavar="N", help="let the rate fall in N steps before it")
    parser.add_argument(
        "--learning-rate", type=float, default=Settings().learning_rate, help="of the first steps, from which it falls"
    )
    parser.add_argument("--leave-out", action="append", default=[], choices=list(SHARES), help="do not simulate a tool")
    parser.add_argument("--cases", type=int, help="number of cases to simulate")
    parser.add_argument(
        "--ship", metavar="VERSION", help="with export: the new version of the model that gets the judge"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.what == "simulate":
        simulate(
            arguments.data,
            arguments.cohort,
            arguments.work,
            arguments.models,
            seed=arguments.seed,
            n_cases=arguments.cases,
            left_out=frozenset(arguments.leave_out),
        )
        return
    if arguments.what == "export":
        n_cases = int((arguments.work / COUNTER_FILE).read_text("utf-8"))
        learner = resume(arguments.work, Settings(seed=arguments.seed))
        core_s = simulated_core_s(arguments.work)
        export_judge(arguments.weights, learner, simulation_core_s=core_s, n_cases=n_cases)
        if arguments.ship is not None:
            ship_judge(arguments.weights, arguments.models / "anonymized", arguments.ship)
        return
    shared = {"--data": arguments.data, "--cohort": arguments.cohort, "--work": arguments.work}
    shared |= {"--models": arguments.models, "--seed": arguments.seed}
    given = [(name, str(value)) for name, value in shared.items()] + [("--leave-out", t) for t in arguments.leave_out]
    command = simulator_command([text for pair in given for text in pair])
    train(
        arguments.work,
        Settings(seed=arguments.seed, learning_rate=arguments.learning_rate, cool_down_steps=arguments.cool_down),
        simulator=command,
        until_step=arguments.steps,
        exported=arguments.weights,
    )


if __name__ == "__main__":
    main()

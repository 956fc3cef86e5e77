"""Describe a finished run for those who use its weights, and say how to fine-tune from them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretraining.checkpoints import CHECKPOINT_FILE, PLANS_FILE
from pretraining.methods import Entry
from pretraining.progress_log import LOG
from pretraining.survey import Survey

CARD = "card.md"
PRETRAIN_NUMBER = 990  # of the folder that carries plans to nnU-Net; any number that is free


def fine_tuning_lines(folder: Path, configuration: str, plans_name: str, *, has_target_plans: bool) -> list[str]:
    """Return the commands of stock nnU-Net that fine-tune from a run; TARGET stands for the dataset's number."""
    train = f"nnUNetv2_train TARGET {configuration} 0 -p {plans_name} -pretrained_weights {folder / CHECKPOINT_FILE}"
    if has_target_plans:
        return [train]
    carrier = f"$nnUNet_preprocessed/Dataset{PRETRAIN_NUMBER}_Pretrain"
    return [
        f"mkdir -p {carrier} && cp {folder / PLANS_FILE} {carrier}/{plans_name}.json",
        "nnUNetv2_plan_and_preprocess -d TARGET --no_pp",
        f"nnUNetv2_move_plans_between_datasets -s {PRETRAIN_NUMBER} -t TARGET -sp {plans_name} -tp {plans_name}",
        f"nnUNetv2_preprocess -d TARGET -plans_name {plans_name} -c {configuration}",
        train,
    ]


def write_card(
    folder: Path,
    entry: Entry,
    config: dict[str, Any],
    survey: Survey,
    commands: Sequence[str],
    *,
    n_steps: int,
    made_with: str,
) -> None:
    """Write ``card.md``."""
    masks = (
        "Patches show the body, and altered voxels are in no loss."
        if config["masks"]
        else "Without masks: patches lie anywhere, and altered voxels count like all others."
    )
    kept = "encoder and decoder" if entry.keeps_decoder else "the encoder; the decoder has nnU-Net's initial values"
    options = ", ".join(f"{key} {value}" for key, value in config["options"].items())
    network = config["network"]["architecture"]["network_class_name"].rsplit(".", 1)[-1]
    lines = [
        f"# {entry.title}, {n_steps} steps",
        "",
        f"Weights for fine-tuning with stock nnU-Net, pretrained without labels: {kept}. {masks}",
        "",
        "| | |",
        "|---|---|",
        f"| method | {entry.title} ({options}) |",
        f"| network | {network}, plans {config['network']['plans']}, {config['network']['configuration']} |",
        f"| patch | {_times(config['patch'])} voxels of {_times(config['spacing_mm'])} mm, batch {config['batch']} |",
        f"| volumes | {survey.n_volumes} ({survey.n_refused} refused); `volumes.json` has their SHA-256 |",
        f"| body in patches | {survey.body_share:.0%} of the voxels are unaltered body |",
        f"| altered | {survey.altered_share:.1%} of body and altered area in the volumes |",
        f"| seed | {config['seed']} |",
        *_last_values(folder),
        f"| made with | {made_with} |",
        "",
        "Fine-tune, with the number of your dataset for TARGET:",
        "",
        "```",
        *commands,
        "```",
        "",
        "This run cannot tell whether the weights help on your task: compare with a network that starts from scratch.",
        "The masks are as good as the models that drew them.",
        "",
        f"Cite: {entry.citation.bibtex_citations[0]}",
        "",
    ]
    (folder / CARD).write_text("\n".join(lines), "utf-8")


def _last_values(folder: Path) -> list[str]:
    """Return table rows with the means over the last tenth of the log."""
    try:
        with (folder / LOG).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        return []
    last = rows[-max(1, len(rows) // 10) :]
    told = []
    for key in (key for key in (rows[0] if rows else {}) if key not in ("step", "seconds", "learning_rate")):
        numbers = [float(row[key]) for row in last if row[key]]
        if numbers:
            told.append(
                f"| {key}, mean of the last {len(numbers)} rows of `log.csv` | {sum(numbers) / len(numbers):.4f} |"
            )
    return told


def _times(values: Sequence[Any]) -> str:
    return " x ".join(f"{value:g}" for value in values)

"""Say a summary in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def report(summary: dict[str, Any]) -> str:
    """Return the tables of pretext tasks, starts, mask effects, and the verdict."""
    parts = ["Pretext tasks, heads not seen:", pretext_table(summary["pretext"])]
    parts += _answers(summary["pretext_verdict"])
    if summary["seeds"]:
        parts += [
            f"Fine-tuning, seeds {', '.join(map(str, summary['seeds']))}; differences to scratch with 95 % intervals:",
            start_table(summary),
            "With masks minus without:",
            mask_table(summary["mask_effect"]),
            *_answers(summary["verdict"]),
        ]
    return "\n\n".join(parts)


def pretext_table(pretext: dict[str, Any]) -> str:
    """Return what each pretraining reached."""
    rows = []
    for name, measured in pretext.items():
        held_out = measured.get("held_out")
        if held_out is None:
            continue
        curve = [point["loss"] for point in measured["curve"]]
        others = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in held_out.items() if key != "loss")
        losses = [f"{curve[0]:.3f} → {curve[-1]:.3f}", f"{held_out['loss']:.3f}"]
        rows.append([name, str(measured["steps"]), f"{measured['cpu_s']:.0f}", *losses, others])
    return table(["start", "steps", "CPU s", "loss in training", "loss held out", "other values held out"], rows)


def start_table(summary: dict[str, Any]) -> str:
    """Return Dice and cross-entropy of each start and its differences to scratch."""
    half, end = summary["half"], summary["end"]
    rows = []
    for name, found in summary["starts"].items():
        differences = found["to_scratch"]
        rows.append(
            [name, f"{found['rate']:g}", f"{found['dice'][half]:.3f}", f"{found['dice'][end]:.3f}"]
            + ["–" if name == "scratch" else str(differences[f"dice at {step}"]) for step in (half, end)]
            + ["–" if name == "scratch" else str(differences[f"cross_entropy at {end}"])]
            + [str(found["reaches_scratch_at"] or "not reached")]
        )
    titles = ["start", "rate", f"Dice at {half}", f"Dice at {end}", f"Δ Dice at {half}", f"Δ Dice at {end}"]
    return table([*titles, f"Δ cross-entropy at {end}", "reaches scratch's last Dice at"], rows)


def mask_table(effects: dict[str, Any]) -> str:
    """Return the effect of the masks on each method."""
    names = list(next(iter(effects.values())))
    return table(
        ["method", *names], [[method, *(str(found[name]) for name in names)] for method, found in effects.items()]
    )


def _answers(verdict: dict[str, bool]) -> list[str]:
    return [f"- {name}: {'yes' if passed else 'no'}" for name, passed in verdict.items()]


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

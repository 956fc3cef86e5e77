"""Draw what a pretraining saw, Dice against steps for every start, and differences to scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.pretraining.protocol import Start
from pretraining.method import Panel

COLOURS = {
    Start.SCRATCH: "black",
    Start.VOLUME_FUSION: "tab:blue",
    Start.ANATOMASK: "tab:orange",
    Start.VOLUME_FUSION_PLAIN: "tab:cyan",
    Start.ANATOMASK_PLAIN: "gold",
    Start.PERMUTED: "tab:gray",
    Start.SUPERVISED: "tab:green",
}


def draw(summary: dict[str, Any], path: Path) -> None:
    """Write one picture of both."""
    figure, (curves, forest) = plt.subplots(1, 2, figsize=(11, 4), dpi=110, layout="constrained")
    for start, colour in COLOURS.items():
        points = summary["starts"][start.value]["dice"]
        curves.plot(list(points), list(points.values()), "o-", color=colour, label=start.value, markersize=3)
    curves.set(xlabel="steps of fine-tuning", ylabel="mean Dice of four targets, people not seen")
    curves.legend(fontsize=7)
    others = [start for start in COLOURS if start != Start.SCRATCH]
    for place, start in enumerate(reversed(others)):
        for shift, step in ((0.15, summary["half"]), (-0.15, summary["end"])):
            found = summary["starts"][start.value]["to_scratch"][f"dice at {step}"]
            is_half = step == summary["half"]
            forest.plot([found.low, found.high], [place + shift] * 2, color=COLOURS[start], alpha=1 if is_half else 0.5)
            forest.plot(found.mean, place + shift, "o" if is_half else "s", color=COLOURS[start], markersize=4)
    forest.axvline(0, color="black", linewidth=0.8)
    forest.set_yticks(range(len(others)), [start.value for start in reversed(others)], fontsize=8)
    forest.set(xlabel=f"Dice minus scratch, 95 % interval (circle: {summary['half']} steps, square: {summary['end']})")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def draw_panels(panels: Sequence[Panel], path: Path) -> None:
    """Write the pictures of a method side by side, with their titles."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3 * len(panels), 3.3), dpi=100, layout="constrained")
    for panel, axis in zip(panels, axes, strict=True):
        axis.imshow(panel.pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(panel.title, fontsize=9)
        axis.axis("off")
    figure.savefig(path)
    plt.close(figure)


def draw_curve(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Write cross-entropy and accuracy on held-out heads against steps, with what trivial answers reach."""
    held = [line["held"] for line in lines]
    shown = [key for key in ("loss", "cross_entropy", "accuracy") if key in held[0]]
    figure, axes = plt.subplots(
        1, len(shown), figsize=(4 * len(shown), 3), dpi=110, layout="constrained", squeeze=False
    )
    steps = [line["step"] for line in lines]
    for axis, key in zip(axes[0], shown, strict=True):
        axis.plot(steps, [each[key] for each in held], "o-", markersize=3, label="held out")
        axis.plot(steps, [line["train"][key] for line in lines], color="tab:gray", linewidth=1, label="in training")
        if key == "accuracy":
            axis.plot(steps, [each["majority_share"] for each in held], "k--", linewidth=1, label="majority")
        axis.set(xlabel="steps", ylabel=key.replace("_", " "))
        axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)

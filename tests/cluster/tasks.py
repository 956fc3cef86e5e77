"""What the workers of the tests do: importable there."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """Note in a folder that a task was begun and ended; wait or die in between."""

    folder: Path
    name: str
    seconds: float = 0.0
    is_deadly: bool = False


def take(step: Step) -> str:
    """Take a step; return the worker's process ID with its name."""
    with (step.folder / "begun").open("a") as file:
        file.write(f"{step.name} {os.getpid()}\n")
    if step.is_deadly:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(step.seconds)
    return f"{step.name} {os.getpid()}"


def fail(_step: Step) -> str:
    """Raise what a defect raises."""
    raise ValueError("no")

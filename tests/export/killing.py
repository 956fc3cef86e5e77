"""An export that is killed between two steps, forked from a process that has imported all.

``python -m tests.export.killing DATA_DIR OUTPUT N_KILLS``: evenly over all steps, each with its own folder. Writes
how many steps a whole export has, what the folder held at every one of them, and after each death.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from dicom_node.store import Store
from tests.gate.cases import export

_CALLS: Final = frozenset(
    {open, os.open, os.link, os.unlink, os.mkdir, os.replace, os.rename, os.fsync, os.rmdir, os.utime, os.symlink}
)
_NAMES: Final = frozenset({"execute", "executemany", "commit"})  # of SQLite


class Death:
    """Kills the process with SIGKILL at the n-th step, counted over all threads; a step of 0 lets it live."""

    def __init__(self, at_step: int, look: Callable[[], None] = lambda: None) -> None:
        self.at_step = at_step
        self.n_steps = 0
        self._look = look  # called at each step
        self._is_looking = False

    def arm(self) -> None:
        threading.setprofile(self._watch)
        sys.setprofile(self._watch)

    def disarm(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _watch(self, _frame: FrameType, event: str, argument: Any) -> None:
        if event != "c_call" or self._is_looking:
            return
        is_step = getattr(argument, "__name__", "") in _NAMES or any(argument is call for call in _CALLS)
        if is_step:
            self.n_steps += 1
            self._is_looking = True
            self._look()
            self._is_looking = False
            if self.n_steps == self.at_step:
                os.kill(os.getpid(), signal.SIGKILL)


def export_and_look(data_dir: Path, output: Path) -> list[list[str]]:
    """Export, and return what a reader of the folder could see meanwhile."""
    seen: set[tuple[str, ...]] = set()
    death = Death(0, lambda: seen.add(tuple(shown(output))))
    with Store.open(data_dir) as store:
        death.arm()
        export(store, output)
        death.disarm()
    return [list(one) for one in sorted(seen)]


def export_and_die(data_dir: Path, output: Path, step: int | None) -> int:
    """Export in a child that dies at a step, or at none; return the number of steps if it lived, else 0."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        death = Death(step or 0)
        with Store.open(data_dir) as store:
            if step is not None:
                death.arm()
            export(store, output)
            death.disarm()
        os.write(writing, str(death.n_steps).encode())
        os._exit(0)
    os.close(writing)
    told = os.read(reading, 32)
    os.close(reading)
    os.waitpid(pid, 0)
    return int(told or b"0")


def shown(output: Path) -> list[str]:
    """Paths of the copies that a reader of the folder sees."""
    return sorted(str(path.relative_to(output)) for path in output.rglob("*.dcm") if ".staging" not in path.parts)


def main(data_dir: str, output: str, n_kills: str) -> None:
    # First, so that each fork has what an export imports; it closes its store, as a fork wants no open one.
    seen = export_and_look(Path(data_dir), Path(output) / "looked at")
    n_steps = export_and_die(Path(data_dir), Path(output) / "whole", 0)
    found: dict[str, Any] = {"n_steps": n_steps, "whole": shown(Path(output) / "whole"), "killed": [], "seen": seen}
    stride = max(1, n_steps // int(n_kills))
    for step in range(2, n_steps, stride):
        folder = Path(output) / str(step)
        lived = export_and_die(Path(data_dir), folder, step)
        after_death = shown(folder) if folder.exists() else []
        export_and_die(Path(data_dir), folder, None)
        manifest = json.loads((folder / "manifest.json").read_text())
        again = {
            "copies": shown(folder),
            "outcomes": [one["outcome"] for one in manifest["studies"]],
            "counts": manifest["counts"],
            "n_instances": len(manifest["instances"]),
            "leftovers": (folder / ".staging").exists(),
        }
        found["killed"].append({"step": step, "lived": lived, "after_death": after_death, "again": again})
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

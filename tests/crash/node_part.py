"""Runs one part of the node, and kills it with SIGKILL at one exact moment.

``node_part.py PART SETTINGS [MODULE:FUNCTION:before|after:NTH]``: the NTH call of that function, or the return from it,
is the last thing that happens. Calls that return nothing to speak of (None, an empty tuple) do not count for ``after``.
The production code knows nothing of this.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from dicom_node import app
from dicom_node.settings import load_settings


def die_at(moment: str) -> None:
    """Wrap the function of a moment so that it is the last one called."""
    module_name, path, when, nth = moment.split(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(function)
    def last(*args: Any, **options: Any) -> Any:
        if when == "before" and next(calls) == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)
        answer = function(*args, **options)
        if when == "after" and answer is not None and answer != () and next(calls) == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, last)


def main() -> int:
    """Run the part that the command line names."""
    part, settings_path, *moments = sys.argv[1:]
    for moment in moments:
        die_at(moment)
    runs = {"receive": app.run_receive, "web": app.run_web, "work": app.run_work}
    return runs[part](load_settings(Path(settings_path), {}))


if __name__ == "__main__":
    sys.exit(main())

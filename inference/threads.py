"""Set how the threads of PyTorch wait for each other."""

from __future__ import annotations

import os
import sys

WAIT_POLICY = "OMP_WAIT_POLICY"


def let_threads_sleep() -> bool:
    """Make the threads of PyTorch sleep instead of spin while they wait.

    A spinning thread occupies a core. If another process needs it (the node's receiver, another job), the thread that
    all others wait for does not run, and segmentation takes more than twice as long.

    OpenMP reads its environment when it is loaded, so call this before PyTorch is imported. A policy that is already
    set in the environment is kept.

    Returns
    -------
    bool
        False if PyTorch was imported before, so that nothing could be changed.
    """
    if "torch" in sys.modules:
        return False
    os.environ.setdefault(WAIT_POLICY, "passive")
    return True

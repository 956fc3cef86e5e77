"""How the threads of PyTorch wait for each other."""

from __future__ import annotations

import os
import sys

WAIT_POLICY = "OMP_WAIT_POLICY"


def let_threads_sleep() -> bool:
    """Have the threads of PyTorch sleep while they wait, instead of spinning.

    A thread that spins holds a core. Where anything else wants one (the node's own receiver, another job), the thread
    that all the others wait for is the one that doesn't run, and segmentation takes more than twice as long.

    OpenMP reads its environment when it is loaded: call this before PyTorch is imported. What the environment already
    says stays.

    Returns
    -------
    bool
        False where PyTorch was imported before, so that nothing can be changed.
    """
    if "torch" in sys.modules:
        return False
    os.environ.setdefault(WAIT_POLICY, "passive")
    return True

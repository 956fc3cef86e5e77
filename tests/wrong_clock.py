"""Processes whose clock is wrong, by Debian's libfaketime; the monotonic clock stays right, as it does on a machine."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

# Else it moves the deadlines at which threads stop waiting for each other, and Python's ask each other for the GIL
# thousands of times a second: half of a processor.
NO_BUSY_WAITING: Final = {"FAKETIME_FORCE_MONOTONIC_FIX": "0"}


def mend_sleep() -> None:
    """Let this process sleep, if it runs under libfaketime.

    Told to leave the monotonic clock alone, version 0.9.10 still changes the deadline of ``clock_nanosleep``, by which
    Python sleeps, and the kernel refuses it (EINVAL).
    """
    if "faketime" in os.environ.get("LD_PRELOAD", ""):
        time.sleep = lambda seconds: threading.Event().wait(seconds)

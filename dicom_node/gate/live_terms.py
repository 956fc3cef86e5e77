"""The rules and the pipeline that a node has now, in a process that runs for months."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dicom_node.gate.documents import Terms

LOOK_S = 5.0  # between two looks at rules and models


class LiveTerms:
    """Terms that are read again from time to time, as the command line reads them each time.

    A process that kept those of its start would show studies as open that were judged by newer rules or models since.

    Parameters
    ----------
    read
        Reads rules and models; returns terms without a pipeline if that fails.
    """

    def __init__(self, read: Callable[[], Terms], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._terms = read()
        self._read_at_s = monotonic()

    def __call__(self) -> Terms:
        """Return the terms, not older than `LOOK_S`; all of an answer should go by one of them."""
        with self._lock:
            if self._monotonic() - self._read_at_s >= LOOK_S:
                self._terms = self._read()
                self._read_at_s = self._monotonic()
            return self._terms

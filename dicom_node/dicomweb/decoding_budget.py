"""Bound the memory of all frames that are being decoded or sent decoded, over all requests together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dicom_node.dicomweb.errors import BusyError

# Each waiting request keeps one of the server's 40 threads from others.
MAX_WAITING: Final = 8
FIRST_WAIT_S: Final = 5.0
LATER_WAIT_S: Final = 30.0


class Reservation:
    """Bytes reserved by one request."""

    def __init__(self, budget: DecodingBudget, n_bytes: int) -> None:
        self._budget = budget
        self.n_bytes = n_bytes

    def shrink(self, n_bytes: int) -> None:
        """Give back all but ``n_bytes``."""
        self._budget.give_back(self.n_bytes - n_bytes)
        self.n_bytes = n_bytes


class DecodingBudget:
    """A number of bytes that requests reserve before they decode; thread-safe.

    Parameters
    ----------
    total_bytes
        Sum that may be reserved at one time.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._free_bytes = total_bytes
        self._n_waiting = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, n_bytes: int, *, wait_s: float = FIRST_WAIT_S) -> Iterator[Reservation]:
        """Reserve bytes for the block, waiting for others at most ``wait_s`` seconds.

        Raises
        ------
        BusyError
            Others hold too much for that long, or `MAX_WAITING` requests wait already.
        ValueError
            It is more than the whole budget.
        """
        if n_bytes > self.total_bytes:
            raise ValueError(f"decoding takes {n_bytes} bytes, at most {self.total_bytes} (web.decoding_bytes)")
        self._take(n_bytes, time.monotonic() + wait_s)
        reservation = Reservation(self, n_bytes)
        try:
            yield reservation
        finally:
            reservation.shrink(0)

    def give_back(self, n_bytes: int) -> None:
        """Let others have reserved bytes."""
        with self._changed:
            self._free_bytes += n_bytes
            self._changed.notify_all()

    def _take(self, n_bytes: int, until: float) -> None:
        with self._changed:
            if n_bytes > self._free_bytes and self._n_waiting >= MAX_WAITING:
                raise BusyError(self.total_bytes)
            self._n_waiting += 1
            try:
                if not self._changed.wait_for(lambda: n_bytes <= self._free_bytes, max(0.0, until - time.monotonic())):
                    raise BusyError(self.total_bytes)
            finally:
                self._n_waiting -= 1
            self._free_bytes -= n_bytes

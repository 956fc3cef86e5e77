"""Limit the number of open associations, and signal their threads to stop; one object per server."""

from __future__ import annotations

import os
import threading
from collections import Counter

from dicom_node.upper_layer.associate import Rejection


class AssociationSlots:
    """A limited number of slots; once closed, none can be claimed, and associations that hold one are asked to end.

    Parameters
    ----------
    n_slots
        Maximum number of open associations.
    n_per_host
        Maximum number from one address.
    """

    def __init__(self, n_slots: int, *, n_per_host: int) -> None:
        self._n_slots = n_slots
        self._n_per_host = n_per_host
        self._taken: Counter[str] = Counter()  # by host
        self._lock = threading.Lock()
        self._is_closed = False
        self._wake, self._waker = os.pipe()

    @property
    def wake(self) -> int:
        """File descriptor that becomes readable once the slots are closed, for threads that wait on a socket."""
        return self._wake

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    @property
    def n_taken(self) -> int:
        """Number of open associations."""
        return self._taken.total()

    def claim(self, host: str) -> Rejection | None:
        """Claim a slot, or return why there is none; every reason is transient, so the peer may try again."""
        with self._lock:
            if self._is_closed:
                return Rejection.TEMPORARY_CONGESTION
            if self._taken.total() >= self._n_slots or self._taken[host] >= self._n_per_host:
                return Rejection.LOCAL_LIMIT_EXCEEDED
            self._taken[host] += 1
        return None

    def leave(self, host: str) -> None:
        """Return a slot."""
        with self._lock:
            self._taken[host] -= 1
            if not self._taken[host]:
                del self._taken[host]

    def close(self) -> None:
        """Grant no more slots, and wake waiting threads."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._waker)  # the other end becomes readable, and stays so

    def release(self) -> None:
        """Close the descriptor of `wake`; call it only when no thread waits any more."""
        self.close()
        os.close(self._wake)

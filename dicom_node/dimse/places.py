"""How many associations may be in at once, and the word to stop; one for all threads of a server."""

from __future__ import annotations

import os
import threading

from dicom_node.dimse.negotiation import Rejection


class Places:
    """A limited number of places; once closed, nobody comes in and those inside are asked to leave."""

    def __init__(self, n_places: int) -> None:
        self._n_places = n_places
        self._n_taken = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self._wake, self._waker = os.pipe()

    @property
    def wake(self) -> int:
        """A file descriptor that is readable once the places are closed, for whoever waits on a socket."""
        return self._wake

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    @property
    def n_taken(self) -> int:
        """How many associations are in."""
        return self._n_taken

    def claim(self) -> Rejection | None:
        """Take a place, or say why there is none; both reasons are transient, so the peer may try again."""
        with self._lock:
            if self._is_closed:
                return Rejection.TEMPORARY_CONGESTION
            if self._n_taken >= self._n_places:
                return Rejection.LOCAL_LIMIT_EXCEEDED
            self._n_taken += 1
        return None

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self._n_taken -= 1

    def close(self) -> None:
        """Let nobody in any more, and wake those who wait."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._waker)  # the other end becomes readable, and stays so

    def release(self) -> None:
        """Free what `wake` needs; nobody waits any more."""
        self.close()
        os.close(self._wake)

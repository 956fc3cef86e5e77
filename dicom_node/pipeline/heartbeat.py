"""Renew a lease during the work that it covers, and detect when it is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from dicom_node.logs import RepeatedFailure

log = logging.getLogger(__name__)

BEATS_PER_LEASE = 3  # two beats may fail before the lease expires


class Heartbeat:
    """A thread that extends a lease until the ``with`` block ends.

    Parameters
    ----------
    extend
        Extends the lease; returns False if it is lost. An exception counts as a missed beat.
    lease_s
        How long the lease lasts after each extension.
    """

    def __init__(self, extend: Callable[[], bool], *, lease_s: float) -> None:
        self._extend = extend
        self._lease_s = lease_s
        self._done = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @property
    def is_lost(self) -> bool:
        """Whether another process may hold the lease by now."""
        return self._lost.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        extended_at = time.monotonic()
        failure = RepeatedFailure(log, "heartbeat missed", "heartbeat works again")
        while not self._done.wait(self._lease_s / BEATS_PER_LEASE):
            try:
                is_ours = self._extend()
            except Exception as error:  # noqa: BLE001 - whatever the error, work continues until the lease expires
                failure.failed(error)
                is_ours = time.monotonic() - extended_at < self._lease_s
            else:
                failure.worked()
                extended_at = time.monotonic()
            if not is_ours:
                self._lost.set()
                return

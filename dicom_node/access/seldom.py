"""Say at most once in a while what may happen thousands of times."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

MAX_KEYS: Final = 4096  # when there are more, the oldest one is dropped


class Seldom:
    """Counts events by key, and says of each whether it is time to record it.

    Parameters
    ----------
    period_s
        A key is due once in this time.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # due since when, how often since

    def count(self, key: Hashable, now_s: float) -> int | None:
        """Count an event; return how many there were since the last one that was due, or None if it is not due."""
        with self._lock:
            last_s, n_since = self._seen.pop(key, (-float("inf"), 0))
            is_due = now_s - last_s >= self._period_s
            self._seen[key] = (now_s, 0) if is_due else (last_s, n_since + 1)
            while len(self._seen) > MAX_KEYS:
                self._seen.popitem(last=False)
        return n_since + 1 if is_due else None


class Failures:
    """Bounds how many wrong tokens an address may send.

    Parameters
    ----------
    max_failures
        In ``period_s``, for each address; what follows is not even looked at.
    """

    def __init__(self, max_failures: int = 20, period_s: float = 60.0) -> None:
        self._max, self._period_s = max_failures, period_s
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, how many

    def wait_s(self, address: str, now_s: float) -> int:
        """Return for how long an address has to wait; 0 if it may try."""
        with self._lock:
            since_s, n_failures = self._seen.get(address, (now_s, 0))
            rest_s = since_s + self._period_s - now_s
        return int(rest_s) + 1 if n_failures >= self._max and rest_s > 0 else 0

    def add(self, address: str, now_s: float) -> None:
        """Count a wrong token."""
        with self._lock:
            since_s, n_failures = self._seen.pop(address, (now_s, 0))
            is_over = now_s - since_s >= self._period_s
            self._seen[address] = (now_s, 1) if is_over else (since_s, n_failures + 1)
            while len(self._seen) > MAX_KEYS:
                self._seen.popitem(last=False)

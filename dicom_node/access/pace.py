"""Bound how many requests a caller may send."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

from dicom_node.access.seldom import MAX_KEYS


class Pace:
    """Lets a caller send so many requests in a minute, all at once or one after the other.

    Parameters
    ----------
    per_minute
        Requests that a caller has at the beginning, and gets back in a minute.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how many, at which time

    def wait_s(self, name: str, now_s: float) -> int:
        """Take one request of a caller; return for how long it has to wait if it has none left, else 0."""
        per_s = self.per_minute / 60
        with self._lock:
            left, at_s = self._left.pop(name, (float(self.per_minute), now_s))
            left = min(left + (now_s - at_s) * per_s, float(self.per_minute))
            may = left >= 1
            self._left[name] = (left - 1 if may else left), now_s
            while len(self._left) > MAX_KEYS:
                self._left.popitem(last=False)
        return 0 if may else math.ceil((1 - left) / per_s)

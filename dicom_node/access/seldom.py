"""Say at most once in a while what may happen thousands of times."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

MAX_KEYS: Final = 4096  # when there are more, the oldest one is dropped
WINDOW_S: Final = 3600.0  # for the number of events of a source, and of all
_IPV6_PREFIX: Final = 64  # bits of an address that a provider gives to one customer, at least


@dataclass(frozen=True, slots=True)
class Due:
    """An event that is to be recorded.

    Attributes
    ----------
    times
        Events with this key since the last one that was recorded, with this one.
    others
        Events with other keys that were not recorded since, because there were too many different ones.
    """

    times: int
    others: int = 0

    @property
    def detail(self) -> dict[str, int]:
        """Numbers for the entry; empty if it stands for one event."""
        return {
            **({"times": self.times} if self.times > 1 else {}),
            **({"others": self.others} if self.others else {}),
        }


class Seldom:
    """Counts events by key, and says of each whether it is time to record it.

    Parameters
    ----------
    period_s
        A key is due once in this time.
    max_of_source, max_in_all
        Events that are due in an hour, of one source and of all: whoever causes the events may be able to choose the
        keys, too. What is beyond them is counted. None: no bound.
    """

    def __init__(self, period_s: float, *, max_of_source: int | None = None, max_in_all: int | None = None) -> None:
        self._period_s = period_s
        self._max_of_source, self._max_in_all = max_of_source, max_in_all
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # due since when, how often since
        self._window_began_s = -float("inf")
        self._recorded: Counter[str] = Counter()  # in this hour, by source
        self._n_others = 0

    def count(self, key: Hashable, now_s: float, *, source: str = "") -> Due | None:
        """Count an event; return what to record, or None if it is not due.

        Parameters
        ----------
        source
            Who can repeat the event: an address or a person.
        """
        with self._lock:
            last_s, n_since = self._seen.pop(key, (-float("inf"), 0))
            if now_s - last_s < self._period_s:
                self._seen[key] = last_s, n_since + 1
                return None
            if not self._has_room(source_of(source), now_s):
                self._n_others += n_since + 1
                return None
            self._seen[key] = now_s, 0
            while len(self._seen) > MAX_KEYS:
                self._seen.popitem(last=False)
            due = Due(n_since + 1, self._n_others)
            self._n_others = 0
            return due

    def _has_room(self, source: str, now_s: float) -> bool:
        """Whether one more event may be recorded in this hour; it is counted then."""
        if now_s - self._window_began_s >= WINDOW_S:
            self._window_began_s = now_s
            self._recorded.clear()
        if self._max_in_all is not None and self._recorded.total() >= self._max_in_all:
            return False
        if self._max_of_source is not None and self._recorded[source] >= self._max_of_source:
            return False
        self._recorded[source] += 1
        return True


def source_of(text: str) -> str:
    """Return the network of an IPv6 address, which one machine has whole; other texts as they are."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return text
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_PREFIX), strict=False))


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

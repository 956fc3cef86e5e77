"""Log events that a peer can cause at will, such as probes of a load balancer, at a limited rate."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

log = logging.getLogger(__name__)

MAX_HOSTS = 1000  # counted individually in one window; further hosts are counted together
SHOWN_HOSTS = 3
OTHER_HOSTS = "other hosts"


class RecurringEvent:
    """One kind of event: the first is logged at once, those of the next ``window_s`` seconds in one line.

    Parameters
    ----------
    level
        Level of the first event and of the summary line.
    is_quiet
        Whether the first event is logged at ``debug`` only, because the event is normal and only its number matters.
    """

    def __init__(
        self,
        level: int,
        *,
        window_s: float,
        is_quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._level = level
        self._window_s = window_s
        self._is_quiet = is_quiet
        self._clock = clock
        self._lock = threading.Lock()
        self._began_at: float | None = None  # of the window
        self._message = ""
        self._hosts: Counter[str] = Counter()  # of events that are not logged yet

    def note(self, message: str, host: str, **fields: object) -> None:
        """Log an event or count it."""
        with self._lock:
            self._sum_up_when_over()
            is_first = self._began_at is None
            if is_first:
                self._began_at = self._clock()
            self._message = message
            if self._is_quiet or not is_first:
                known = host in self._hosts or len(self._hosts) < MAX_HOSTS
                self._hosts[host if known else OTHER_HOSTS] += 1
        level = self._level if is_first and not self._is_quiet else logging.DEBUG
        log.log(level, message, extra={"host": host, **fields})

    def sum_up(self, *, is_last: bool = False) -> None:
        """Log the count once the window is over, or if this is the last call."""
        with self._lock:
            self._sum_up_when_over(is_last=is_last)

    def _sum_up_when_over(self, *, is_last: bool = False) -> None:
        if self._began_at is None:
            return
        elapsed_s = self._clock() - self._began_at
        if elapsed_s < self._window_s and not is_last:
            return
        if self._hosts:
            hosts = ", ".join(f"{host} ({n})" for host, n in self._hosts.most_common(SHOWN_HOSTS))
            log.log(
                self._level,
                "%s (%s%d in %.0f s)",
                self._message,
                "" if self._is_quiet else "repeated, ",
                self._hosts.total(),
                elapsed_s,
                extra={"n_hosts": len(self._hosts), "hosts": hosts},
            )
        self._began_at = None
        self._hosts.clear()

"""Group commit: what many threads bring at once is committed together, by one of them.

There is no committer thread and no waiting to fill a batch. Whoever finds nobody committing leads: it commits all that
is there. Those who come meanwhile form the next batch, and one of them leads it. Each thread is woken once, by its own
lock, when its part is settled or when it is to lead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar


class Part:
    """What one thread brings; a subclass says what that is."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline  # of the monotonic clock: when its thread wants an answer
        self.error: BaseException | None = None
        self.is_settled = False
        self.leads = False
        self.wake = threading.Lock()
        self.wake.acquire()

    def settle(self, error: BaseException | None = None) -> None:
        """Say how it ended; its thread goes on once the batch is done."""
        self.error = error
        self.is_settled = True


P = TypeVar("P", bound=Part)


class GroupCommit(Generic[P]):
    """Batches of parts.

    Parameters
    ----------
    commit
        Commits a batch and settles its parts. A part that it leaves unsettled goes into the next batch.
    """

    def __init__(self, commit: Callable[[Sequence[P]], None]) -> None:
        self._commit = commit
        self._lock = threading.Lock()  # for what follows; never held while something is committed
        self._pending: list[P] = []
        self._has_leader = False

    def join(self, part: P) -> bool:
        """Put a part into the next batch; True if the caller has to call `lead` now, else it calls `wait`."""
        with self._lock:
            self._pending.append(part)
            leads, self._has_leader = not self._has_leader, True
        return leads

    def wait(self, part: P) -> bool:
        """Wait until a part is settled; False if nobody began to commit it by its deadline."""
        if not part.wake.acquire(timeout=max(0.0, part.deadline - time.monotonic())):
            with self._lock:
                if part in self._pending and not part.leads:
                    self._pending.remove(part)
                    return False
            part.wake.acquire()  # it is being committed, which the deadline of its batch bounds
        if not part.is_settled:
            self.lead(part)
        return True

    def lead(self, part: P) -> None:
        """Commit all that is pending, the caller's part with it, until that part is settled."""
        while not part.is_settled:
            with self._lock:
                batch, self._pending = self._pending, []
            try:
                self._commit(batch)
            except BaseException as error:
                for one in batch:
                    if not one.is_settled:
                        one.settle(error)
                raise
            finally:
                self._pass_on(part, batch)

    def _pass_on(self, part: P, batch: Sequence[P]) -> None:
        """Wake the next leader first, since others wait for it, and then the threads of the batch."""
        with self._lock:
            self._pending[:0] = [one for one in batch if not one.is_settled]
            leader = part if not part.is_settled else next(iter(self._pending), None)
            self._has_leader = leader is not None
            if leader is not None:
                leader.leads = True
        if leader is not None and leader is not part:
            leader.wake.release()
        for one in batch:
            if one.is_settled and one is not part:
                one.wake.release()

"""What a torture did to a node and what came of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What was sent and what was done to the node, and what came of it."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)  # SOP Instance UID → dataset
    n_sent_again: int = 0  # because no success was seen
    kills: Counter[str] = field(default_factory=Counter)  # what was done, also what is no kill
    recovery_s: list[float] = field(default_factory=list)  # from a kill until that part works again
    silences_s: list[float] = field(default_factory=list)  # longest wait of each sender for a success
    n_series: int = 0
    n_connections: int = 0  # most that were open to PostgreSQL when somebody looked
    lost: list[str] = field(default_factory=list)
    doubled_results: list[str] = field(default_factory=list)
    n_sent_twice: int = 0  # to the archive, the same bytes under the same SOP Instance UID: an answer was lost
    study_states: Counter[str] = field(default_factory=Counter)
    doubled_deliveries: list[str] = field(default_factory=list)
    missing_deliveries: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_clean(self) -> bool:
        """Whether something was sent, something was killed, and nothing is wrong."""
        wrong = (self.lost, self.doubled_results, self.doubled_deliveries, self.missing_deliveries, self.unfinished)
        return bool(self.acknowledged) and bool(self.kills) and not any(wrong)

    def lines(self) -> Iterator[str]:
        """The figures."""
        n_instances = len(self.acknowledged)
        yield f"acknowledged: {n_instances} instances of {self.n_series} series; {self.n_sent_again} sent again"
        yield "troubles: " + ", ".join(f"{name} {number}" for name, number in sorted(self.kills.items()))
        for name, found in (
            ("lost", self.lost),
            ("results doubled", self.doubled_results),
            ("deliveries doubled", self.doubled_deliveries),
            ("deliveries missing", self.missing_deliveries),
            ("series unfinished", self.unfinished),
        ):
            yield f"{name}: {len(found)}"
            yield from (f"  {each}" for each in found[:20])
        yield f"delivered again under the same SOP Instance UID, since an answer was lost: {self.n_sent_twice}"
        yield "studies: " + ", ".join(f"{state} {n}" for state, n in sorted(self.study_states.items()))
        if self.n_connections:
            yield f"most connections to PostgreSQL: {self.n_connections}"
        if self.recovery_s:
            middle = sorted(self.recovery_s)[len(self.recovery_s) // 2]
            yield f"time to recover: median {middle:.1f} s, longest {max(self.recovery_s):.1f} s"
        if self.silences_s:
            yield f"longest time without a success for a sender: {max(self.silences_s):.1f} s"

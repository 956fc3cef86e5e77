"""Count at a peer what it accepted: C-FIND or QIDO-RS some seconds after the last instance of a series."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dicom_node.peers.errors import ContextRefusedError, DeliveryError
from dicom_node.pipeline.counting import CountInstances
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.store import DeliveryCheckRow, Store

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 60.0  # before the second count; then doubles, because some peers index late
MAX_CHECKS = 8  # over about two hours


@dataclass(frozen=True, slots=True)
class DeliveryCheck:
    """Compares what one peer accepted with what it lists."""

    store: Store
    peer: DimsePeer | DicomwebPeer
    count: CountInstances
    clock: Callable[[], datetime]

    def check_due(self, *, must_stop: Callable[[], bool]) -> int:
        """Count the series that are due; return how many are complete at the peer."""
        n_complete = 0
        for check in self.store.delivery_checks.due(self.peer.name, self.clock()):
            if must_stop():
                break
            n_complete += self._check(check)
        return n_complete

    def _check(self, check: DeliveryCheckRow) -> bool:
        n_sent = self.store.delivery_checks.n_accepted(check.peer, check.series_instance_uid)
        n_found, reason, is_offered = None, "", True
        try:
            n_found = self.count(self.peer, check.study_instance_uid, check.series_instance_uid) or 0
        except ContextRefusedError as error:
            reason, is_offered = str(error), False
        except DeliveryError as error:
            reason = str(error)
        is_complete = n_found is not None and n_found >= n_sent
        is_over = is_complete or not is_offered or check.n_checks + 1 >= MAX_CHECKS
        now = self.clock()
        again_at = None if is_over else now + timedelta(seconds=FIRST_PAUSE_S * 2**check.n_checks)
        self.store.delivery_checks.note(
            check, n_sent=n_sent, n_found=n_found, reason=reason, now=now, again_at=again_at
        )
        if not is_complete:
            log.warning(
                "peer does not list what it accepted: %s",
                reason or f"{n_found} of {n_sent} instances",
                extra={"peer": check.peer, "series_instance_uid": check.series_instance_uid, "is_over": is_over},
            )
        return is_complete

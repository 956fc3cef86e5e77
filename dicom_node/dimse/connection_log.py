"""Log events that a peer can cause at will without an association, each kind at a limited rate."""

from __future__ import annotations

import logging

from dicom_node.dimse.connections import Connection
from dicom_node.dimse.record import Seen
from dicom_node.dimse.recurring import RecurringEvent
from dicom_node.upper_layer.errors import (
    AssociationError,
    OtherProtocolError,
    PeerGoneError,
    PeerTooSlowError,
    StoppingError,
)
from dicom_node.upper_layer.tls.errors import TlsHandshakeError

FAULT_WINDOW_S = 60.0
PROBE_WINDOW_S = 3600.0
# Kinds of faults that are counted separately.
_OWN_EVENT = (OtherProtocolError, PeerGoneError, PeerTooSlowError, TlsHandshakeError)


class ConnectionLog:
    """Logs connections of one server that did not become associations.

    A connection that is closed again, or left open, before its first byte is a probe: a load balancer, monitoring, a
    port scan. It is not a fault, and is only counted.
    """

    def __init__(self) -> None:
        self.seen = Seen()  # by the audit trail
        self._probes = RecurringEvent(logging.INFO, window_s=PROBE_WINDOW_S, is_quiet=True)
        self._evicted, self._not_accepted = _fault(), _fault()
        self._faults: dict[type[AssociationError], RecurringEvent] = {kind: _fault() for kind in _OWN_EVENT}
        self._other_faults = _fault()

    def note(self, error: AssociationError, connection: Connection, *, has_sent: bool) -> None:
        """Record that a connection ended without an association request; ``has_sent`` says whether it sent any byte."""
        if connection.is_evicted or isinstance(error, StoppingError):
            return
        if not has_sent and isinstance(error, (PeerGoneError, PeerTooSlowError)):
            self._probes.note("connections without an association request (probes)", connection.host)
            return
        self._faults.get(type(error), self._other_faults).note(f"no association: {error}", connection.host)

    def note_eviction(self, connection: Connection) -> None:
        """Record that a connection was closed to make room for another one."""
        self._evicted.note("connection closed: it has no association, and too many like it are open", connection.host)

    def note_not_accepted(self, reason: str, host: str) -> None:
        """Record that the system could not accept or serve a connection."""
        self._not_accepted.note(f"connection not accepted: {reason}", host)

    def sum_up(self, *, is_last: bool = False) -> None:
        """Log the counts whose window is over."""
        for event in (self._probes, self._evicted, self._not_accepted, *self._faults.values(), self._other_faults):
            event.sum_up(is_last=is_last)


def _fault() -> RecurringEvent:
    return RecurringEvent(logging.WARNING, window_s=FAULT_WINDOW_S)

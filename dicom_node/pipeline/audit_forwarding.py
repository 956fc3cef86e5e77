"""Forward sealed entries of the audit trail to a syslog receiver, each at least once and in their order."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from dicom_node.logs import RepeatedFailure
from dicom_node.peers.errors import SyslogError
from dicom_node.peers.syslog import SyslogClient, syslog_frame
from dicom_node.pipeline.audit_message import audit_message
from dicom_node.settings import AuditSettings
from dicom_node.store import Store
from dicom_node.upper_layer.tls.errors import TlsFilesError

log = logging.getLogger(__name__)

BATCH = 200


class AuditForwarder:
    """Sends what was sealed since the last time.

    Parameters
    ----------
    source
        AE title of the node.
    must_stop
        Ends a run after its current batch.
    """

    def __init__(self, store: Store, settings: AuditSettings, *, source: str, must_stop: Callable[[], bool]) -> None:
        self._store = store
        self._settings = settings
        self._source = source
        self._must_stop = must_stop
        self._host = socket.gethostname()
        self._failure = RepeatedFailure(log, "audit messages wait", "audit messages are sent again")

    def forward(self) -> None:
        """Send all that waits; what could not be sent is sent the next time."""
        try:
            while self._send_batch() == BATCH and not self._must_stop():
                pass
        except (SyslogError, TlsFilesError) as error:
            self._failure.failed(error)
        else:
            self._failure.worked()

    def _send_batch(self) -> int:
        target = str(self._settings.syslog)
        sealed = self._store.audit_chain.after(self._store.audit_chain.forwarded(target), limit=BATCH)
        if not sealed:
            return 0
        with SyslogClient(self._settings) as client:
            for one in sealed:
                xml = audit_message(one.entry, source=self._source, position=one.position, digest=one.digest)
                client.send(syslog_frame(xml, one.entry.occurred_at, host=self._host))
        self._store.audit_chain.note_forwarded(target, sealed[-1].position)
        return len(sealed)

"""N-EVENT-REPORT: take a peer's report on storage commitment (PS3.4 J.3.3).

A report counts only if it comes from a peer that was asked, to this node's AE title, with the Transaction UID of a
request to that peer. Any other is refused and logged, and commits nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.messages import Operation, Refusal
from dicom_node.dimse.status import Answer
from dicom_node.errors import NodeError
from dicom_node.store import Store
from dicom_node.upper_layer.command_set import Request
from dicom_node.upper_layer.commitment import (
    MAX_REPORT_BYTES,
    STORAGE_COMMITMENT,
    CommitmentReport,
    ReportStatus,
    answer_report,
)

log = logging.getLogger(__name__)


class CommitmentService:
    """Takes the reports of one association.

    Parameters
    ----------
    peers
        Names of the peers that the requestor may be; empty refuses every report.
    fields
        Fields of the association's log lines.
    """

    def __init__(
        self, store: Store, peers: Sequence[str], fields: Mapping[str, object], clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._peers = peers
        self._fields = fields
        self._clock = clock

    def begin(self, context: AcceptedContext, request: Request) -> Operation:
        """Start to receive a report, or refuse it before its data set arrives."""
        if not self._peers:
            return self._refusal(ReportStatus.PROCESSING_FAILURE, "you are no peer that was asked for commitment")
        if context.abstract_syntax != STORAGE_COMMITMENT or request.sop_class_uid != STORAGE_COMMITMENT:
            return self._refusal(ReportStatus.NO_SUCH_CLASS, "reports are taken on storage commitment only")
        if not request.has_data_set:
            return self._refusal(ReportStatus.INVALID_ARGUMENT, "a report without event information")
        return _Receiving(self, context.transfer_syntax_uid, request)

    def take(self, report: CommitmentReport) -> bool:
        """Record a report; return False if no request to this peer has its Transaction UID."""
        taken = self._store.commitments.take_report(
            report.transaction_uid,
            self._peers,
            committed=report.committed,
            failed=report.failed,
            now=self._clock(),
        )
        fields = {**self._fields, "peer": ", ".join(self._peers)}
        if taken is None:
            log.warning("report on storage commitment refused: its transaction is unknown", extra=fields)
            return False
        level = logging.WARNING if taken.n_failed or taken.n_unmentioned else logging.INFO
        counts = {name: getattr(taken, name) for name in ("n_asked", "n_committed", "n_failed", "n_unmentioned")}
        log.log(level, "peer reports on storage commitment", extra={**fields, **counts})
        return True

    def answer_to(self, error: Exception) -> Answer:
        """Log why a report was not recorded, and ask the peer to repeat it."""
        is_known = isinstance(error, NodeError)
        log.error(
            "report on storage commitment not recorded: %s",
            error if is_known else type(error).__name__,
            extra=self._fields,
            exc_info=not is_known,
        )
        return Answer(ReportStatus.PROCESSING_FAILURE, "not recorded now; report again later")

    def _refusal(self, status: ReportStatus, comment: str) -> Refusal:
        log.warning("report on storage commitment refused: %s", comment, extra=self._fields)
        return Refusal(Answer(status, comment))


class _Receiving:
    """A report that is being received."""

    def __init__(self, service: CommitmentService, transfer_syntax_uid: str, request: Request) -> None:
        self._service = service
        self._transfer_syntax_uid = transfer_syntax_uid
        self._event_type = request.type_id
        self._encoded = bytearray()
        self._is_too_long = False

    def write(self, fragment: memoryview) -> None:
        if len(self._encoded) + len(fragment) > MAX_REPORT_BYTES:
            self._is_too_long = True
        else:
            self._encoded += fragment

    def finish(self) -> Answer:
        if self._is_too_long:
            return Answer(ReportStatus.INVALID_ARGUMENT, f"a report of more than {MAX_REPORT_BYTES} bytes")
        try:
            return Answer(
                *answer_report(
                    bytes(self._encoded),
                    event_type=self._event_type,
                    transfer_syntax_uid=self._transfer_syntax_uid,
                    take=self._service.take,
                )
            )
        except Exception as error:  # noqa: BLE001 - every report gets a status, whatever the error
            return self._service.answer_to(error)

    def discard(self) -> None:
        """Nothing was recorded."""

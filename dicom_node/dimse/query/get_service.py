"""C-GET: send what an identifier names on the same association, one instance after the other (PS3.4 C.4.3)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.exchange import Exchange
from dicom_node.dimse.query.counts import Counts, last_answer
from dicom_node.dimse.query.models import Agreed
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.dimse.query.retrieve_service import RetrieveService
from dicom_node.dimse.query.sub_operations import SubOperations
from dicom_node.dimse.status import Answer
from dicom_node.failures import error_code
from dicom_node.peers import SendOutcome
from dicom_node.peers.errors import ContextRefusedError, DeliveryError
from dicom_node.store import InstanceRow, Store
from dicom_node.upper_layer.command_set import Request
from dicom_node.upper_layer.errors import AssociationError

log = logging.getLogger(__name__)


class GetService(RetrieveService):
    """Answers the C-GET requests of one association.

    Parameters
    ----------
    sender
        Sends instances on it.
    """

    def __init__(
        self,
        store: Store,
        policy: QueryRetrieve,
        exchange: Exchange,
        *,
        agreed: Agreed,
        fields: Mapping[str, object],
        sender: SubOperations,
    ) -> None:
        super().__init__(store, policy, exchange, agreed=agreed, fields=fields)
        self._sender = sender

    def perform(self, context: AcceptedContext, request: Request, encoded: bytes) -> Answer:
        """Send the instances, and return the last answer."""
        identifier, found = self.find(context, encoded)
        if found.has_more:
            return self.too_many()
        counts = Counts(remaining=len(found))
        failed: list[str] = []
        reasons: Counter[str] = Counter()
        is_cancelled = self.exchange.is_cancelled(request)
        for row in () if is_cancelled else found:
            outcome, reason = self._send(request, row)
            if reason is not None:
                reasons[reason] += 1
                failed.append(row.sop_instance_uid)
            counts = _after(counts, outcome)
            self.exchange.send_pending(context.context_id, request, counts.pending())
            self.exchange.flush()
            if is_cancelled := self.exchange.is_cancelled(request):
                break
        if counts.remaining and not is_cancelled:  # deleted meanwhile
            counts = Counts(0, counts.completed, counts.failed + counts.remaining, counts.warning)
            reasons["deleted before it was sent"] += 1
        comment = "" if not counts.failed else f"{counts.failed} not sent: {reasons.most_common(1)[0][0]}"
        answer = last_answer(counts, failed, context.transfer_syntax_uid, is_cancelled=is_cancelled, comment=comment)
        self.note_end("C-GET", identifier, counts, answer, reasons)
        return answer

    def _send(self, request: Request, row: InstanceRow) -> tuple[SendOutcome | None, str | None]:
        """Send an instance; return its outcome, or None and why it could not be sent."""
        try:
            outcome = self._sender.send(request, row, str(self.fields.get("calling_ae_title", "")))
        except AssociationError:
            raise
        except Exception as error:
            code = error_code(error)
            if code == "internal":
                log.exception("instance not sent", extra={**self.fields, "sop_instance_uid": row.sop_instance_uid})
            return None, code
        return outcome, None if outcome.error is None else _reason(outcome.error)


def _reason(error: DeliveryError) -> str:
    """Return a short reason that names no instance, so that reasons can be counted."""
    if isinstance(error, ContextRefusedError):
        _, sop_class_uid, transfer_syntax_uid = error.args
        return f"{error.code} ({sop_class_uid} in {transfer_syntax_uid})"
    return error_code(error)


def _after(counts: Counts, outcome: SendOutcome | None) -> Counts:
    """Return the numbers after one more sub-operation."""
    is_sent = outcome is not None and outcome.error is None
    has_warning = is_sent and outcome is not None and outcome.warning_status is not None
    return Counts(
        counts.remaining - 1,
        counts.completed + (is_sent and not has_warning),
        counts.failed + (not is_sent),
        counts.warning + has_warning,
    )

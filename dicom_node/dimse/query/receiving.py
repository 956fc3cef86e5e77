"""Receive the identifier of a request, perform it, and translate what goes wrong into an answer."""

from __future__ import annotations

import logging
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.exchange import Exchange
from dicom_node.dimse.messages import Operation, Refusal
from dicom_node.dimse.query.errors import IdentifierError, UnreadableIdentifierError
from dicom_node.dimse.query.identifier import MAX_IDENTIFIER_BYTES
from dicom_node.dimse.query.models import QUERY_MODELS, Agreed
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.dimse.query.status import QueryStatus
from dicom_node.dimse.status import Answer
from dicom_node.errors import NodeError
from dicom_node.failures import ErrorKind, classify
from dicom_node.store import Store
from dicom_node.upper_layer.command_set import Element, Request
from dicom_node.upper_layer.errors import AssociationError

log = logging.getLogger(__name__)

_TAG: Final = struct.Struct("<HH")


class QueryService(ABC):
    """An operation of query and retrieve on one association.

    Parameters
    ----------
    agreed
        What was agreed on beyond the baseline.
    fields
        Fields of the association's log lines.
    """

    busy_status = QueryStatus.OUT_OF_RESOURCES

    def __init__(
        self,
        store: Store,
        policy: QueryRetrieve,
        exchange: Exchange,
        *,
        agreed: Agreed,
        fields: Mapping[str, object],
    ) -> None:
        self.store = store
        self.policy = policy
        self.exchange = exchange
        self.agreed = agreed
        self.fields = fields

    @abstractmethod
    def perform(self, context: AcceptedContext, request: Request, encoded: bytes) -> Answer:
        """Perform a request whose identifier has arrived, and return its last answer."""

    def begin(self, context: AcceptedContext, request: Request) -> Operation:
        """Start to receive an identifier, or refuse the request before it arrives."""
        model = QUERY_MODELS.get(context.abstract_syntax)
        if (
            model is None
            or model.operation != request.command_field
            or request.sop_class_uid != context.abstract_syntax
        ):
            what = "SOP class differs from its presentation context"
            return Refusal(self.refused(Answer(QueryStatus.SOP_CLASS_NOT_SUPPORTED, what)))
        if not request.has_data_set:
            return Refusal(self.refused(Answer(QueryStatus.CANNOT_PROCESS, "request without an identifier")))
        return _Receiving(self, context, request)

    def answer(self, context: AcceptedContext, request: Request, encoded: bytes) -> Answer:
        """Perform a request; every one gets a status, whatever the error, unless the association is over."""
        self.exchange.begin(request)
        try:
            answer = self.perform(context, request, encoded)
        except AssociationError:
            raise
        except IdentifierError as error:
            answer = self.refused(_refusal(error))
        except Exception as error:  # noqa: BLE001 - answered, and logged with the traceback if it is a defect
            answer = self._failure(error)
        self.exchange.flush()
        return answer

    def too_long(self) -> Answer:
        """Return the answer to an identifier that is too long."""
        what = f"identifier of more than {MAX_IDENTIFIER_BYTES} bytes"
        return self.refused(Answer(QueryStatus.CANNOT_PROCESS, what))

    def _failure(self, error: Exception) -> Answer:
        is_known = isinstance(error, NodeError)
        is_busy = classify(error) is ErrorKind.TRANSIENT
        log.error(
            "query or retrieval failed: %s",
            error if is_known else type(error).__name__,
            extra=dict(self.fields),
            exc_info=not is_known,
        )
        if is_busy:
            return Answer(self.busy_status, "busy; ask again later")
        return Answer(QueryStatus.CANNOT_PROCESS, "internal error, see the log of the node")

    def refused(self, answer: Answer) -> Answer:
        """Log that a request is refused, and return the answer."""
        fields = {"status": f"0x{answer.status:04X}", "reason": answer.comment}
        log.warning("query or retrieval refused", extra={**self.fields, **fields})
        return answer


def _refusal(error: IdentifierError) -> Answer:
    is_unreadable = isinstance(error, UnreadableIdentifierError)
    status = QueryStatus.CANNOT_PROCESS if is_unreadable else QueryStatus.IDENTIFIER_DOES_NOT_MATCH
    if error.tag is None:
        return Answer(status, error.comment)
    offending = _TAG.pack(error.tag >> 16, error.tag & 0xFFFF)
    return Answer(status, error.comment, {Element.OFFENDING_ELEMENT: offending})


class _Receiving:
    """A request whose identifier is being received."""

    def __init__(self, service: QueryService, context: AcceptedContext, request: Request) -> None:
        self._service = service
        self._context = context
        self._request = request
        self._encoded = bytearray()
        self._is_too_long = False

    def write(self, fragment: memoryview) -> None:
        if len(self._encoded) + len(fragment) > MAX_IDENTIFIER_BYTES:
            self._is_too_long = True
        else:
            self._encoded += fragment

    def finish(self) -> Answer:
        if self._is_too_long:
            return self._service.too_long()
        return self._service.answer(self._context, self._request, bytes(self._encoded))

    def discard(self) -> None:
        """Nothing was begun."""

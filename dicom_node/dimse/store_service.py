"""C-STORE: store an instance from the fragments of its data set, or answer why not (PS3.4 annex B)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.errors import ObjectTooLargeError
from dicom_node.dimse.messages import Operation, Refusal
from dicom_node.dimse.status import ANSWERS_TO_KEPT, Answer, Status, answer_to_failure
from dicom_node.errors import NodeError
from dicom_node.store import Arrival, Kept, Spool, Store
from dicom_node.upper_layer.command_set import Request

log = logging.getLogger(__name__)

SPACE_CHECK_BYTES = 16 * 2**20  # received between two checks of the free space


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender, for the index and the log."""

    calling_ae_title: str
    association_id: str


def refuse_store(_context: AcceptedContext, _request: Request) -> Operation:
    """Refuse an instance of a peer that may not store."""
    return Refusal(Answer(Status.NOT_AUTHORIZED, "you may not store here (may_store)"))


class StoreService:
    """Begins a C-STORE for one association."""

    def __init__(self, store: Store, sender: Sender, clock: Callable[[], datetime], *, max_object_bytes: int) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._max_object_bytes = max_object_bytes

    def begin(self, context: AcceptedContext, request: Request) -> Operation:
        """Start to receive an instance, or refuse it before its data set arrives."""
        refusal = _find_refusal(context, request)
        if refusal is not None:
            log.warning("instance refused", extra=self._fields(request, refusal))
            return Refusal(refusal)
        try:
            self._store.inbox.check_space()
            spool = self._store.objects.spool(
                sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid,
                transfer_syntax_uid=context.transfer_syntax_uid,
            )
        except Exception as error:  # noqa: BLE001 - a full disk must not end the association
            return Refusal(self.answer_to(error, request))
        arrival = Arrival(
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=context.transfer_syntax_uid,
            calling_ae_title=self._sender.calling_ae_title,
            association_id=self._sender.association_id,
            received_at=self._clock(),
        )
        return _Receiving(self, request, spool, arrival)

    def check(self, dataset_bytes: int, n_more: int) -> None:
        """Raise if an instance with ``dataset_bytes`` received so far must not grow by ``n_more`` bytes."""
        if dataset_bytes + n_more > self._max_object_bytes:
            raise ObjectTooLargeError(self._max_object_bytes)
        if (dataset_bytes + n_more) // SPACE_CHECK_BYTES > dataset_bytes // SPACE_CHECK_BYTES:
            self._store.inbox.check_space()

    def keep(self, spool: Spool, arrival: Arrival, request: Request) -> Answer:
        """Make the instance durable before returning; from here on the spool belongs to the inbox."""
        # Use the time of the last byte; otherwise an instance slower than the quiet time would be quiet at once.
        kept = self._store.inbox.keep(spool, replace(arrival, received_at=self._clock()))
        answer = ANSWERS_TO_KEPT[kept]
        if kept is Kept.CONFLICT:
            log.warning(
                "instance set aside: another one with the same UID is stored", extra=self._fields(request, answer)
            )
        return answer

    def answer_to(self, error: Exception, request: Request) -> Answer:
        """Log why an instance was not kept, with the traceback if it is a defect, and return the answer."""
        answer = answer_to_failure(error)
        log.error(
            "instance not kept: %s",
            error if isinstance(error, NodeError) else type(error).__name__,
            extra=self._fields(request, answer),
            exc_info=answer.status is Status.PROCESSING_FAILURE,
        )
        return answer

    def _fields(self, request: Request, answer: Answer) -> dict[str, str]:
        return {
            "sop_instance_uid": request.sop_instance_uid,
            "association_id": self._sender.association_id,
            "calling_ae_title": self._sender.calling_ae_title,
            "status": f"0x{answer.status:04X}",
            "reason": answer.comment,
        }


class _Receiving:
    """An instance that is being received; after a failure its file is removed, and the rest is read and dropped."""

    def __init__(self, service: StoreService, request: Request, spool: Spool, arrival: Arrival) -> None:
        self._service = service
        self._request = request
        self._spool = spool
        self._arrival = arrival
        self._failure: Answer | None = None

    def write(self, fragment: memoryview) -> None:
        if self._failure is not None:
            return
        try:
            self._service.check(self._spool.dataset_bytes, len(fragment))
            self._spool.write(fragment)
        except Exception as error:  # noqa: BLE001 - answered after the last fragment
            self._failure = self._service.answer_to(error, self._request)
            self._spool.discard()

    def finish(self) -> Answer:
        if self._failure is not None:
            return self._failure
        try:
            return self._service.keep(self._spool, self._arrival, self._request)
        except Exception as error:  # noqa: BLE001 - every instance gets a status, whatever the error
            return self._service.answer_to(error, self._request)

    def discard(self) -> None:
        self._spool.discard()


class Echo:
    """C-ECHO (PS3.4 annex A)."""

    def write(self, fragment: memoryview) -> None:
        """Drop the fragment, because an echo has no data set."""

    def finish(self) -> Answer:
        """Answer with success."""
        return Answer(Status.SUCCESS)

    def discard(self) -> None:
        """Nothing was begun."""


def begin_echo(_context: AcceptedContext, _request: Request) -> Operation:
    """Start a C-ECHO."""
    return Echo()


def _find_refusal(context: AcceptedContext, request: Request) -> Answer | None:
    if not context.is_for_storage or request.sop_class_uid != context.abstract_syntax:
        return Answer(Status.SOP_CLASS_NOT_SUPPORTED, "SOP class differs from its presentation context")
    if not request.has_sop_instance_uid:
        return Answer(Status.INVALID_SOP_INSTANCE, "Affected SOP Instance UID missing or invalid")
    if not request.has_data_set:
        return Answer(Status.CANNOT_UNDERSTAND, "C-STORE request without a data set")
    return None

"""Assemble DIMSE messages from fragments: command set, data set, answer (PS3.7 6.3, PS3.8 annex E)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import NamedTuple, Protocol

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.status import Answer, Status
from dicom_node.upper_layer.command_set import (
    MAX_COMMAND_SET_BYTES,
    CommandField,
    Request,
    decode_request,
    encode_response,
)
from dicom_node.upper_layer.errors import AbortReason, ProtocolError
from dicom_node.upper_layer.pdu_stream import Pdv, data_set_pdus, p_data_pdus


class Operation(Protocol):
    """A request that is being performed; it is answered once its data set is complete."""

    def write(self, fragment: memoryview) -> None:
        """Process a fragment of the data set, which is only valid during the call."""

    def finish(self) -> Answer:
        """Perform the operation after the last fragment, and return the answer."""

    def discard(self) -> None:
        """Undo what was begun, because the rest will not arrive."""


class Refusal:
    """An operation that is refused: its data set is read and dropped, so that the association stays usable."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def write(self, fragment: memoryview) -> None:
        """Drop the fragment."""

    def finish(self) -> Answer:
        """Say why."""
        return self._answer

    def discard(self) -> None:
        """Nothing was begun."""


BeginOperation = Callable[[AcceptedContext, Request], Operation]


class Response(NamedTuple):
    """A message to send back."""

    context_id: int
    command_set: bytes
    data_set: bytes = b""


@dataclass(slots=True)
class _Message:
    """The part of a message received so far; request and operation are set once its command set is complete."""

    context: AcceptedContext
    command: bytearray = field(default_factory=bytearray)
    n_bytes: int = 0
    performing: tuple[Request, Operation] | None = None


class MessageReader:
    """Assembles the messages of one association, one at a time.

    Parameters
    ----------
    contexts
        Accepted presentation contexts; a fragment on any other context ends the association.
    operations
        Command field → function that begins the operation; others are answered with 0x0211.
    """

    def __init__(self, contexts: Mapping[int, AcceptedContext], operations: Mapping[int, BeginOperation]) -> None:
        self._contexts = contexts
        self._operations = operations
        self._message: _Message | None = None

    @property
    def message_bytes(self) -> int | None:
        """Bytes of the current message received so far, ``None`` between two messages."""
        return None if self._message is None else self._message.n_bytes

    def feed(self, pdv: Pdv) -> Response | None:
        """Process the next fragment; return the response if it was the last one of its message.

        Raises
        ------
        ProtocolError
            The fragment is not allowed at this point.
        """
        message = self._message
        if message is None:
            message = self._message = _Message(self._accepted_context(pdv.context_id))
        elif pdv.context_id != message.context.context_id:
            what = f"message changes from presentation context {message.context.context_id} to {pdv.context_id}"
            raise ProtocolError(AbortReason.UNEXPECTED_PDU_PARAMETER, what)
        if pdv.is_command != (message.performing is None):
            what = f"{'command set' if pdv.is_command else 'data set'} fragment where the other kind was due"
            raise ProtocolError(AbortReason.UNEXPECTED_PDU_PARAMETER, what)
        message.n_bytes += len(pdv.fragment)
        if message.performing is None:
            return self._take_command(message, pdv)
        request, operation = message.performing
        operation.write(pdv.fragment)
        return self._finish(message.context, request, operation) if pdv.is_last else None

    def discard(self) -> None:
        """Drop the current message, if any."""
        if self._message is not None and self._message.performing is not None:
            self._message.performing[1].discard()
        self._message = None

    def _accepted_context(self, context_id: int) -> AcceptedContext:
        try:
            return self._contexts[context_id]
        except KeyError:
            what = f"presentation context {context_id} was not accepted"
            raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what) from None

    def _take_command(self, message: _Message, pdv: Pdv) -> Response | None:
        if message.n_bytes > MAX_COMMAND_SET_BYTES:
            what = f"command set longer than {MAX_COMMAND_SET_BYTES} bytes"
            raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what)
        message.command += pdv.fragment
        if not pdv.is_last:
            return None
        request = decode_request(bytes(message.command))
        if request.is_response:
            what = f"response 0x{request.command_field:04x} to a question that was not asked"
            raise ProtocolError(AbortReason.UNEXPECTED_PDU_PARAMETER, what)
        if request.command_field == CommandField.C_CANCEL_RQ:  # its operation has ended already; it has no answer
            self._message = None
            return None
        operation = self._begin(message.context, request)
        message.performing = request, operation
        return None if request.has_data_set else self._finish(message.context, request, operation)

    def _begin(self, context: AcceptedContext, request: Request) -> Operation:
        begin = self._operations.get(request.command_field)
        if begin is not None:
            return begin(context, request)
        what = f"operation 0x{request.command_field:04x} is not performed here"
        return Refusal(Answer(Status.UNRECOGNIZED_OPERATION, what))

    def _finish(self, context: AcceptedContext, request: Request, operation: Operation) -> Response:
        self._message = None  # the operation ends itself from here on
        return respond(context.context_id, request, operation.finish())


def encode_message(response: Response, *, max_pdu_bytes: int) -> bytes:
    """Return the P-DATA-TF PDUs of a response, none longer than the peer accepts."""
    pdus = p_data_pdus(response.context_id, response.command_set, max_pdu_bytes=max_pdu_bytes)
    if response.data_set:
        data_set = BytesIO(response.data_set)
        pdus += b"".join(data_set_pdus(response.context_id, data_set, max_pdu_bytes=max_pdu_bytes))
    return pdus


def respond(context_id: int, request: Request, answer: Answer) -> Response:
    """Return the response to a request."""
    has_data_set = bool(answer.data_set)
    encoded = encode_response(request, answer.status, answer.comment, has_data_set=has_data_set, more=answer.elements)
    return Response(context_id, encoded, answer.data_set)

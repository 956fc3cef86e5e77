"""What a long operation says and hears before its last response: pending responses, C-CANCEL, sub-operations.

While an operation runs, the peer may send a C-CANCEL, answers to sub-operations, or end the association; anything else
is a protocol error, because no asynchronous operations are negotiated (PS3.7 D.3.3.3).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from dicom_node.dimse.messages import encode_message, respond
from dicom_node.dimse.slots import AssociationSlots
from dicom_node.dimse.status import Answer
from dicom_node.upper_layer import command_set
from dicom_node.upper_layer.command_set import CommandField, Request, Response
from dicom_node.upper_layer.errors import (
    AbortReason,
    PeerAbortedError,
    PeerTooSlowError,
    ProtocolError,
    StoppingError,
)
from dicom_node.upper_layer.pdu_stream import PduStream, PduType, Pdv, data_set_pdus, p_data_pdus, split_pdvs

BUFFERED_BYTES = 32 * 1024  # of pending responses, which are sent together
MIN_BYTES_PER_S = 4096  # a peer that takes an object more slowly would hold its slot for hours
MAX_PDUS_AT_ONCE = 16  # read between two responses, so that a peer that sends endlessly delays none of them for long
ABORT_BODY_BYTES = 4


class _Fragment(NamedTuple):
    context_id: int
    is_command: bool
    is_last: bool
    value: bytes


class Exchange:
    """Messages of one association between a request and its last response.

    Attributes
    ----------
    unread
        Presentation data values of the current PDU that nobody has looked at yet.
    """

    def __init__(
        self, stream: PduStream, slots: AssociationSlots, *, peer_max_pdu_bytes: int, timeout_s: float
    ) -> None:
        self._stream = stream
        self._slots = slots
        self._max_pdu_bytes = peer_max_pdu_bytes
        self._timeout_s = timeout_s
        self._buffer = bytearray()
        self._command = bytearray()
        self._cancelled: set[int] = set()
        self._responses: deque[Response] = deque()
        self._last_message_id = 0
        self.unread: Iterable[Pdv] = ()

    def begin(self, request: Request) -> None:
        """Prepare for an operation; a C-CANCEL of an earlier one with the same message ID does not count."""
        self._cancelled.discard(request.message_id)

    def send_pending(self, context_id: int, request: Request, answer: Answer) -> None:
        """Send a response soon; `flush` sends it now."""
        response = respond(context_id, request, answer)
        self._buffer += encode_message(response, max_pdu_bytes=self._max_pdu_bytes)
        if len(self._buffer) >= BUFFERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send all responses that wait."""
        if self._buffer:
            self._stream.send(bytes(self._buffer))
            self._buffer.clear()

    def is_cancelled(self, request: Request) -> bool:
        """Return whether the peer has sent a C-CANCEL for the request.

        Raises
        ------
        AssociationError
            The peer is gone, or the node is stopping.
        """
        self._take_unread()
        for _ in range(MAX_PDUS_AT_ONCE):
            if not self._stream.is_readable(0.0):
                break
            self._take_pdu()
        if self._slots.is_closed:
            raise StoppingError
        return request.message_id in self._cancelled

    def wait(self, timeout_s: float) -> None:
        """Wait until the peer says something or the time is over; raises like `is_cancelled`."""
        self._take_unread()
        try:
            if not self._stream.wait(timeout_s, self._slots.wake):
                raise StoppingError
        except PeerTooSlowError:
            return  # nothing was due
        self._take_pdu()

    def store(self, context_id: int, request: Request, data_set: BinaryIO) -> Response:
        """Send a C-STORE request, with the rest of ``data_set``, and wait for its response."""
        self.flush()
        self._responses.clear()
        encoded = command_set.encode_request(request)
        self._stream.send(p_data_pdus(context_id, encoded, max_pdu_bytes=self._max_pdu_bytes))
        began, n_bytes = time.monotonic(), 0
        for pdu in data_set_pdus(context_id, data_set, max_pdu_bytes=self._max_pdu_bytes):
            self._stream.send(pdu)
            n_bytes += len(pdu)
            if time.monotonic() - began > self._timeout_s + n_bytes / MIN_BYTES_PER_S:
                raise PeerTooSlowError("acceptance of a whole object", time.monotonic() - began)
        end_at = time.monotonic() + self._timeout_s
        self._take_unread()
        while not self._responses:
            if time.monotonic() > end_at:
                raise PeerTooSlowError("answer to a C-STORE", self._timeout_s)
            self.wait(max(0.0, end_at - time.monotonic()))
        response = self._responses.popleft()
        if response.message_id != request.message_id:
            what = f"answer to message {response.message_id}, {request.message_id} was asked"
            raise ProtocolError(AbortReason.UNEXPECTED_PDU_PARAMETER, what)
        return response

    def next_message_id(self, request: Request) -> int:
        """Return a message ID for a sub-operation, another one than that of the request."""
        self._last_message_id = self._last_message_id % 0xFFFF + 1
        if self._last_message_id == request.message_id:
            self._last_message_id = self._last_message_id % 0xFFFF + 1
        return self._last_message_id

    def _take_unread(self) -> None:
        for pdv in self.unread:
            self._take(_Fragment(pdv.context_id, pdv.is_command, pdv.is_last, bytes(pdv.fragment)))

    def _take_pdu(self) -> None:
        pdu = self._stream.read()
        if pdu.type is PduType.ABORT:
            raise PeerAbortedError(*pdu.body[2:4]) if len(pdu.body) == ABORT_BODY_BYTES else PeerAbortedError(0, 0)
        if pdu.type is not PduType.P_DATA_TF:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, f"{pdu.type.name} PDU while an operation is performed")
        for pdv in split_pdvs(pdu.body):
            self._take(_Fragment(pdv.context_id, pdv.is_command, pdv.is_last, bytes(pdv.fragment)))

    def _take(self, fragment: _Fragment) -> None:
        if not fragment.is_command:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU_PARAMETER, "data set while an operation is performed")
        self._command += fragment.value
        if len(self._command) > command_set.MAX_COMMAND_SET_BYTES:
            what = f"command set longer than {command_set.MAX_COMMAND_SET_BYTES} bytes"
            raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what)
        if not fragment.is_last:
            return
        encoded = bytes(self._command)
        self._command.clear()
        if command_set.is_response(encoded):
            if self._responses:
                raise ProtocolError(AbortReason.UNEXPECTED_PDU_PARAMETER, "response to a question that was not asked")
            self._responses.append(command_set.decode_response(encoded))
            return
        request = command_set.decode_request(encoded)
        if request.command_field != CommandField.C_CANCEL_RQ:
            what = f"request 0x{request.command_field:04x} while another one is performed"
            raise ProtocolError(AbortReason.UNEXPECTED_PDU_PARAMETER, what)
        self._cancelled.add(request.message_id)

"""An association with a DIMSE peer as requestor: limited in time, released or aborted at its end."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from dicom_node.peers.errors import (
    AssociationAbortedError,
    AssociationBusyError,
    AssociationRejectedError,
    DeliveryError,
    PeerTimeoutError,
    PeerUnreachableError,
    TlsFailedError,
)
from dicom_node.peers.tls import calling_context
from dicom_node.settings import DimsePeer
from dicom_node.upper_layer import command_set
from dicom_node.upper_layer.associate import (
    AssociationRequest,
    decode_acceptance,
    decode_rejection,
    encode_request,
)
from dicom_node.upper_layer.command_set import Request, Response
from dicom_node.upper_layer.commitment import MAX_REPORT_BYTES
from dicom_node.upper_layer.errors import (
    AbortReason,
    AbortSource,
    AssociationError,
    PeerTooSlowError,
    ProtocolError,
)
from dicom_node.upper_layer.pdu_stream import (
    PduStream,
    PduType,
    abort_pdu,
    data_set_pdus,
    p_data_pdus,
    release_request,
    split_pdvs,
)
from dicom_node.upper_layer.presentation import ContextResult, ProposedContext
from dicom_node.upper_layer.tls.errors import TlsHandshakeError
from dicom_node.upper_layer.tls.handshake import end_tls, request_tls

log = logging.getLogger(__name__)

MAX_PDU_BYTES = 131072
MAX_DATA_SET_BYTES = 2**20  # of one answer; a match of a query is some hundred bytes
CONNECT_TIMEOUT_S = 10.0
MIN_BYTES_PER_S = 4096  # a slower peer would delay all other deliveries to it


AnswerEvent = Callable[[Request, bytes], tuple[int, str]]
"""Returns status and comment of the response to an event that the peer reports (N-EVENT-REPORT)."""


class Proposal(NamedTuple):
    """A presentation context with one transfer syntax; with two, the peer would choose."""

    sop_class_uid: str
    transfer_syntax_uid: str


class _Fragment(NamedTuple):
    context_id: int
    is_command: bool
    is_last: bool
    value: bytes


class RequestedAssociation:
    """An association that a peer accepted; one request at a time.

    Parameters
    ----------
    contexts
        Presentation context IDs of the accepted proposals.
    peer_max_pdu_bytes
        Longest PDU that the peer accepts; 0 means no limit.
    timeout_s
        How long the peer has for each answer; it must also accept at least `MIN_BYTES_PER_S` of an object.
    """

    def __init__(
        self, stream: PduStream, contexts: Mapping[Proposal, int], *, peer_max_pdu_bytes: int, timeout_s: float
    ) -> None:
        self._stream = stream
        self._max_pdu_bytes = peer_max_pdu_bytes
        self._timeout_s = timeout_s
        self._fragments: deque[_Fragment] = deque()
        self._last_context_id = 0
        self.contexts = contexts

    def perform(self, context_id: int, request: Request, data_set: BinaryIO | None = None) -> Response:
        """Send a request, with the rest of ``data_set``, and wait for its answer.

        Raises
        ------
        AssociationError
            The association is over.
        """
        self._send(context_id, request, data_set)
        return self._read_response(request)

    def perform_many(self, context_id: int, request: Request, data_set: BinaryIO) -> Iterator[tuple[Response, bytes]]:
        """Send a request like `perform`; yield its answers, each with its data set; the last has none."""
        self._send(context_id, request, data_set)
        while True:
            response = self._read_response(request)
            yield response, self._read(is_command=False, max_bytes=MAX_DATA_SET_BYTES) if response.has_data_set else b""
            if not response.has_data_set:
                return

    def perform_with_events(
        self, context_id: int, request: Request, data_set: BinaryIO, answer: AnswerEvent
    ) -> Response:
        """Send a request like `perform`; events that the peer reports before its answer are answered by ``answer``."""
        self._send(context_id, request, data_set)
        while True:
            encoded = self._read(is_command=True, max_bytes=command_set.MAX_COMMAND_SET_BYTES)
            if command_set.is_response(encoded):
                return _checked_response(encoded, request)
            self._answer_event(encoded, answer)

    def await_event(self, answer: AnswerEvent, *, timeout_s: float) -> bool:
        """Answer the next event that the peer reports; return whether more may come.

        Parameters
        ----------
        timeout_s
            How long to wait for the beginning of an event; if none begins, more may come.
        """
        if not self._fragments and not self._stream.is_readable(timeout_s):
            return True
        try:
            encoded = self._read(is_command=True, max_bytes=command_set.MAX_COMMAND_SET_BYTES)
            self._answer_event(encoded, answer)
        except AssociationError as error:  # whatever the peer does now, it has accepted the request before
            log.debug("no more events: %s", error)
            return False
        return True

    def _answer_event(self, encoded: bytes, answer: AnswerEvent) -> None:
        event = command_set.decode_request(encoded)
        data_set = b""
        if event.has_data_set:
            data_set = self._read(is_command=False, max_bytes=MAX_REPORT_BYTES)
        status, comment = answer(event, data_set)
        response = command_set.encode_response(event, status, comment)
        self._stream.send(p_data_pdus(self._last_context_id, response, max_pdu_bytes=self._max_pdu_bytes))

    def _send(self, context_id: int, request: Request, data_set: BinaryIO | None) -> None:
        encoded = command_set.encode_request(request)
        self._stream.send(p_data_pdus(context_id, encoded, max_pdu_bytes=self._max_pdu_bytes))
        if data_set is None:
            return
        began, n_bytes = time.monotonic(), 0
        for pdu in data_set_pdus(context_id, data_set, max_pdu_bytes=self._max_pdu_bytes):
            self._stream.send(pdu)
            n_bytes += len(pdu)
            if time.monotonic() - began > self._timeout_s + n_bytes / MIN_BYTES_PER_S:
                raise PeerTooSlowError("acceptance of a whole object", time.monotonic() - began)

    def release(self) -> None:
        """Release the association; a peer that does not respond changes nothing, since all was answered before."""
        try:
            self._stream.send(release_request())
            self._stream.read()
        except AssociationError as error:
            log.debug("association not released: %s", error)

    def abort(self) -> None:
        """Abort the association."""
        try:
            self._stream.send(abort_pdu(AbortSource.SERVICE_USER, AbortReason.NOT_SPECIFIED))
        except AssociationError as error:
            log.debug("association not aborted: %s", error)

    def _read_response(self, request: Request) -> Response:
        encoded = self._read(is_command=True, max_bytes=command_set.MAX_COMMAND_SET_BYTES)
        return _checked_response(encoded, request)

    def _read(self, *, is_command: bool, max_bytes: int) -> bytes:
        """Return a whole command set or data set from its fragments; a PDU may hold fragments of both.

        All of it has to arrive in time: a peer that sends single bytes or empty fragments is too slow.
        """
        end_at = time.monotonic() + self._timeout_s
        encoded = bytearray()
        while len(encoded) <= max_bytes:
            if not self._fragments:
                pdu = self._stream.read(timeout_s=max(0.0, end_at - time.monotonic()))
                if pdu.type is not PduType.P_DATA_TF:
                    raise ProtocolError(AbortReason.UNEXPECTED_PDU, f"{pdu.type.name} PDU where an answer was expected")
                # Copied, because the stream's next PDU overwrites this one.
                self._fragments.extend(
                    _Fragment(pdv.context_id, pdv.is_command, pdv.is_last, bytes(pdv.fragment))
                    for pdv in split_pdvs(pdu.body)
                )
            fragment = self._fragments.popleft()
            if fragment.is_command is not is_command:
                wanted = "command set" if is_command else "data set"
                raise ProtocolError(
                    AbortReason.UNEXPECTED_PDU_PARAMETER, f"a fragment that does not belong to a {wanted}"
                )
            self._last_context_id = fragment.context_id
            encoded += fragment.value
            if fragment.is_last:
                return bytes(encoded)
        raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, f"answer of more than {max_bytes} bytes")


def _checked_response(encoded: bytes, request: Request) -> Response:
    response = command_set.decode_response(encoded)
    if response.message_id != request.message_id:
        what = f"answer to message {response.message_id}, {request.message_id} was asked"
        raise ProtocolError(AbortReason.UNEXPECTED_PDU_PARAMETER, what)
    return response


@contextmanager
def associate(
    peer: DimsePeer, proposals: Sequence[Proposal], *, calling_ae_title: str, timeout_s: float
) -> Iterator[RequestedAssociation]:
    """Associate with ``peer`` during the block; release at its end, abort if it raises.

    Raises
    ------
    DeliveryError
        There is no association, or it ended too early; the class says whether trying again can help.
    """
    with _connect(peer, timeout_s) as connection:
        stream = PduStream(connection, max_pdu_bytes=MAX_PDU_BYTES, pdu_timeout_s=timeout_s)
        try:
            association = _negotiate(stream, peer, proposals, calling_ae_title, timeout_s)
        except AssociationError as error:
            raise _translated(peer, error, timeout_s) from error
        try:
            yield association
        except AssociationError as error:
            association.abort()
            raise _translated(peer, error, timeout_s) from error
        except BaseException:
            association.abort()
            raise
        association.release()
        end_tls(connection)


def _connect(peer: DimsePeer, timeout_s: float) -> socket.socket:
    """Connect to a peer, with TLS if its settings say so."""
    context = None if peer.tls is None else calling_context(peer, peer.tls)
    connect_timeout_s = min(CONNECT_TIMEOUT_S, timeout_s)
    try:
        connection = socket.create_connection((peer.host, peer.port), timeout=connect_timeout_s)
    except OSError as error:
        where = f"no connection to {peer.host}:{peer.port} ({error.strerror or error})"
        raise PeerUnreachableError(peer.name, where) from error
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if peer.tls is None or context is None:
            return connection
        return request_tls(connection, context, peer.tls.host_name or peer.host, timeout_s=connect_timeout_s)
    except TlsHandshakeError as error:
        connection.close()
        raise TlsFailedError(peer.name, str(error.args[-1])) from error
    except BaseException:
        connection.close()
        raise


def _negotiate(
    stream: PduStream, peer: DimsePeer, proposals: Sequence[Proposal], calling_ae_title: str, timeout_s: float
) -> RequestedAssociation:
    by_id = {2 * index + 1: proposal for index, proposal in enumerate(proposals)}
    contexts = (ProposedContext(number, uid, (syntax,)) for number, (uid, syntax) in by_id.items())
    stream.send(encode_request(AssociationRequest(calling_ae_title, peer.ae_title, tuple(contexts), MAX_PDU_BYTES)))
    pdu = stream.read()
    if pdu.type is PduType.ASSOCIATE_RJ:
        rejection = decode_rejection(pdu)
        kind = AssociationBusyError if rejection.is_transient else AssociationRejectedError
        raise kind(peer.name, rejection.reason)
    if pdu.type is PduType.ABORT:
        raise AssociationAbortedError(peer.name, "aborted while it was negotiated")
    if pdu.type is not PduType.ASSOCIATE_AC:
        raise ProtocolError(AbortReason.UNEXPECTED_PDU, f"{pdu.type.name} PDU answers an association request")
    acceptance = decode_acceptance(pdu)
    accepted = {
        by_id[answer.context_id]: answer.context_id
        for answer in acceptance.contexts
        # A transfer syntax that was not proposed would not match the stored bytes.
        if answer.result == ContextResult.ACCEPTED
        and answer.context_id in by_id
        and answer.transfer_syntax_uid == by_id[answer.context_id].transfer_syntax_uid
    }
    return RequestedAssociation(stream, accepted, peer_max_pdu_bytes=acceptance.max_pdu_bytes, timeout_s=timeout_s)


def _translated(peer: DimsePeer, error: AssociationError, timeout_s: float) -> DeliveryError:
    if isinstance(error, PeerTooSlowError):
        return PeerTimeoutError(peer.name, str(error.args[0]), timeout_s)
    what = str(error.args[-1])
    # TLS 1.3: a peer says only after the handshake that it does not accept our certificate.
    return (
        TlsFailedError(peer.name, what)
        if isinstance(error.__cause__, ssl.SSLError)
        else AssociationAbortedError(peer.name, what)
    )

"""One association as acceptor, from request to release, abort or timeout (PS3.8 9.2)."""

from __future__ import annotations

import logging
import ssl
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dicom_node.dimse.admission import AdmissionPolicy, find_rejection
from dicom_node.dimse.commitment_service import CommitmentService
from dicom_node.dimse.connection_log import ConnectionLog
from dicom_node.dimse.connections import Connection
from dicom_node.dimse.contexts import AcceptedContext, accepted_contexts, grant_roles, negotiate_contexts
from dicom_node.dimse.exchange import Exchange
from dicom_node.dimse.messages import BeginOperation, MessageReader, encode_message
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.dimse.query.services import (
    answer_extensions,
    query_operations,
    rejected_queries,
    wanted_classes,
)
from dicom_node.dimse.record import AssociationRecord
from dicom_node.dimse.slots import AssociationSlots
from dicom_node.dimse.store_service import Sender, StoreService, begin_echo, refuse_store
from dicom_node.store import Store
from dicom_node.upper_layer.associate import (
    Acceptance,
    AssociationRequest,
    decode_request,
    encode_acceptance,
    encode_rejection,
)
from dicom_node.upper_layer.command_set import CommandField
from dicom_node.upper_layer.errors import (
    AbortReason,
    AssociationError,
    PeerAbortedError,
    PeerGoneError,
    PeerTooSlowError,
    ProtocolError,
    StoppingError,
)
from dicom_node.upper_layer.pdu_stream import (
    PduStream,
    PduType,
    abort_pdu,
    release_response,
    split_pdvs,
)
from dicom_node.upper_layer.tls.errors import TlsHandshakeError
from dicom_node.upper_layer.tls.handshake import accept_tls
from dicom_node.upper_layer.tls.peers import certificate_names, describe_tls

log = logging.getLogger(__name__)

ARTIM_TIMEOUT_S = 10.0  # for the request to arrive (PS3.8 9.1.5)
# A slower message counts as an attempt to block a slot; even a bad line to another site is faster.
MIN_BYTES_PER_S = 256
CLOSE_TIMEOUT_S = 2.0  # for the peer to close after the last PDU, so that it can read that PDU first
ABORT_BODY_BYTES = 4
# An object over the limit is read to its end, so that its sender gets an answer, unless it is far too large.
MAX_MESSAGE_PER_OBJECT = 2


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """Limits on size and time of one association, and on what it may propose."""

    max_pdu_bytes: int
    max_object_bytes: int
    idle_timeout_s: float
    artim_timeout_s: float
    accept_unknown_uids: bool


class Association:
    """Serves one accepted connection until its end; never raises."""

    def __init__(
        self,
        connection: Connection,
        store: Store,
        *,
        policy: AdmissionPolicy,
        limits: AssociationLimits,
        commitment_peers: Mapping[str, Sequence[str]],
        query_retrieve: QueryRetrieve | None,
        slots: AssociationSlots,
        connection_log: ConnectionLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._connection = connection
        self._store = store
        self._policy = policy
        self._limits = limits
        self._commitment_peers = commitment_peers
        self._query_retrieve = query_retrieve
        self._slots = slots
        self._connection_log = connection_log
        self._clock = clock
        self._stream = PduStream(
            connection.socket, max_pdu_bytes=limits.max_pdu_bytes, pdu_timeout_s=limits.idle_timeout_s
        )
        self._fields: dict[str, object] = {"association_id": uuid.uuid4().hex, "host": connection.host}
        self._record = AssociationRecord(store, connection_log.seen, connection.host, clock)

    def run(self) -> None:
        """Negotiate, serve, close."""
        with self._connection.socket:
            try:
                request = self._read_request()
                if request is not None:
                    self._admit_and_serve(request)
            except AssociationError as error:
                has_ended = isinstance(error, (PeerGoneError, PeerAbortedError))
                level = logging.INFO if has_ended or isinstance(error, StoppingError) else logging.WARNING
                log.log(level, "association ended: %s", error, extra=self._fields)
                self._abort(error)
            except Exception:  # a defect must not end the other associations
                log.exception("association ended: internal error", extra=self._fields)
                self._abort(AssociationError())
            else:
                self._stream.drain(CLOSE_TIMEOUT_S)

    def _read_request(self) -> AssociationRequest | None:
        """Wait for the association request; return None if there is none, after logging and answering that."""
        if not self._encrypt():
            return None
        try:
            if not self._stream.wait(self._limits.artim_timeout_s, self._slots.wake):
                raise StoppingError
            pdu = self._stream.read(timeout_s=self._limits.artim_timeout_s)
            if pdu.type is not PduType.ASSOCIATE_RQ:
                raise ProtocolError(AbortReason.UNEXPECTED_PDU, f"{pdu.type.name} PDU before an association")
            return decode_request(pdu)
        except AssociationError as error:
            self._connection_log.note(error, self._connection, has_sent=self._stream.has_received)
            self._abort(error)
            return None

    def _encrypt(self) -> bool:
        """Perform the TLS handshake if the connection came in on the port for TLS; no slot is taken meanwhile."""
        connection = self._connection.socket
        if not isinstance(connection, ssl.SSLSocket):
            return True
        try:
            accept_tls(connection, wake=self._slots.wake, timeout_s=self._limits.artim_timeout_s)
        except AssociationError as error:
            self._connection_log.note(error, self._connection, has_sent=isinstance(error, TlsHandshakeError))
            return False  # and no abort: without a handshake only TLS itself can say anything to the peer
        self._fields |= describe_tls(connection)
        return True

    def _admit_and_serve(self, request: AssociationRequest) -> None:
        self._fields |= {"calling_ae_title": request.calling_ae_title, "called_ae_title": request.called_ae_title}
        host, names = self._connection.host, certificate_names(self._connection.socket)
        rejection = find_rejection(request, self._policy, host, names) or self._slots.claim(host)
        if rejection is not None:
            log.warning("association rejected: %s", rejection.in_words, extra=self._fields)
            self._record.rejected(request, rejection)
            self._stream.send(encode_rejection(rejection))
            return
        self._connection.holds_slot = True
        outcome = "internal error"
        try:
            self._serve(request, self._accept(request))
            outcome = "released"
        except AssociationError as error:
            outcome = str(error)
            raise
        finally:
            self._record.ended(request, str(self._fields["association_id"]), outcome)
            self._connection.holds_slot = False
            self._slots.leave(self._connection.host)

    def _accept(self, request: AssociationRequest) -> Mapping[int, AcceptedContext]:
        """Answer the request, and return the accepted contexts."""
        policy = self._query_retrieve
        permitted = None if policy is None else policy.permitted(request.calling_ae_title)
        wanted = wanted_classes(request, permitted)
        answers = negotiate_contexts(
            request.contexts,
            accept_unknown=self._limits.accept_unknown_uids,
            permitted=permitted,
            for_c_get=wanted,
        )
        contexts = accepted_contexts(request.contexts, answers)
        acceptance = Acceptance(
            request.calling_ae_title,
            request.called_ae_title,
            answers,
            self._limits.max_pdu_bytes,
            grant_roles(request.roles, wanted=wanted),
            answer_extensions(request, contexts.values()),
        )
        self._stream.send(encode_acceptance(acceptance))
        if permitted is not None and (rejected := rejected_queries(request, permitted)):
            what = "query and retrieve are not permitted to this AE title; see peers in the settings"
            log.warning(what, extra=self._fields | {"sop_classes": ", ".join(rejected)})
        fields = {"n_contexts": len(contexts), "implementation": request.implementation_version_name}
        log.info("association accepted", extra=self._fields | fields)
        return contexts

    def _serve(self, request: AssociationRequest, contexts: Mapping[int, AcceptedContext]) -> None:
        """Process messages until the peer releases the association."""
        sender = Sender(request.calling_ae_title, str(self._fields["association_id"]))
        service = StoreService(self._store, sender, self._clock, max_object_bytes=self._limits.max_object_bytes)
        is_called = request.called_ae_title == self._policy.ae_title
        peers = self._commitment_peers.get(request.calling_ae_title, ()) if is_called else ()
        reports = CommitmentService(self._store, peers, self._fields, self._clock)
        operations: dict[int, BeginOperation] = {
            CommandField.C_STORE_RQ: service.begin if self._policy.may_store(sender.calling_ae_title) else refuse_store,
            CommandField.N_EVENT_REPORT_RQ: reports.begin,
            CommandField.C_ECHO_RQ: begin_echo,
        }
        exchange = Exchange(
            self._stream,
            self._slots,
            peer_max_pdu_bytes=request.max_pdu_bytes,
            timeout_s=self._limits.idle_timeout_s,
        )
        if self._query_retrieve is not None:
            operations |= query_operations(
                self._store, self._query_retrieve, exchange, request, contexts, fields=self._fields
            )
        reader = MessageReader(contexts, self._record.counting(operations))
        with self._store.associations.hold(sender.association_id) as note_message:
            try:
                n_messages = self._take_messages(reader, exchange, request.max_pdu_bytes, note_message)
            finally:
                reader.discard()
        self._stream.send(release_response())
        log.info("association released", extra=self._fields | {"n_messages": n_messages})

    def _take_messages(
        self,
        reader: MessageReader,
        exchange: Exchange,
        peer_max_pdu_bytes: int,
        note_message: Callable[[datetime], None],
    ) -> int:
        n_messages = 0
        message_began_at = 0.0
        while True:
            if reader.message_bytes is None:
                self._wait_for_message()
                message_began_at = time.monotonic()
            pdu = self._stream.read()
            if pdu.type is PduType.RELEASE_RQ:
                return n_messages
            if pdu.type is PduType.ABORT:
                raise PeerAbortedError(*pdu.body[2:4]) if len(pdu.body) == ABORT_BODY_BYTES else PeerAbortedError(0, 0)
            if pdu.type is not PduType.P_DATA_TF:
                raise ProtocolError(AbortReason.UNEXPECTED_PDU, f"{pdu.type.name} PDU within an association")
            exchange.unread = pdvs = split_pdvs(pdu.body)
            for pdv in pdvs:
                response = reader.feed(pdv)
                if response is not None:
                    n_messages += 1
                    note_message(self._clock())
                    self._stream.send(encode_message(response, max_pdu_bytes=peer_max_pdu_bytes))
                    message_began_at = time.monotonic()
            if reader.message_bytes is not None:
                self._check_message(reader.message_bytes, time.monotonic() - message_began_at)

    def _wait_for_message(self) -> None:
        if self._slots.is_closed or not self._stream.wait(self._limits.idle_timeout_s, self._slots.wake):
            raise StoppingError

    def _check_message(self, n_bytes: int, elapsed_s: float) -> None:
        """Raise if a message is endless, or so slow that it would take forever although each PDU is in time."""
        if elapsed_s > self._limits.idle_timeout_s + n_bytes / MIN_BYTES_PER_S:
            raise PeerTooSlowError("complete message", elapsed_s)
        if n_bytes > MAX_MESSAGE_PER_OBJECT * self._limits.max_object_bytes:
            what = f"message of {n_bytes} bytes and not at its end, objects have up to {self._limits.max_object_bytes}"
            raise ProtocolError(AbortReason.NOT_SPECIFIED, what)

    def _abort(self, error: AssociationError) -> None:
        """Send an abort, unless the peer has ended the association itself."""
        if isinstance(error, (PeerGoneError, PeerAbortedError)):
            return
        try:
            self._stream.send(abort_pdu(error.abort_source, error.abort_reason))
        except AssociationError:
            log.debug("peer did not receive the abort", extra=self._fields)
        else:
            self._stream.drain(CLOSE_TIMEOUT_S)

"""One association as acceptor, from request to release, abort or timeout (PS3.8 9.2)."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from socket import socket

from dicom_node.dimse.messages import BeginOperation, MessageReader
from dicom_node.dimse.negotiation import (
    AdmissionPolicy,
    Agreement,
    agree,
    decode_request,
    encode_rejection,
    find_rejection,
)
from dicom_node.dimse.places import Places
from dicom_node.dimse.store_service import Sender, StoreService, begin_echo
from dicom_node.store import Store
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
    p_data_pdus,
    release_response,
    split_pdvs,
)

log = logging.getLogger(__name__)

ARTIM_TIMEOUT_S = 10.0  # for the request to come (PS3.8 9.1.5)
# A message slower than this is taken for an attempt to hold a place; a bad line to another site does more.
MIN_BYTES_PER_S = 256
CLOSE_TIMEOUT_S = 2.0  # for the peer to close after the last PDU, so that it can read that PDU first
ABORT_BODY_BYTES = 4


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """Sizes and times that bound what one association can cost."""

    max_pdu_bytes: int
    idle_timeout_s: float
    artim_timeout_s: float


class Association:
    """Serves one accepted connection to its end; never raises."""

    def __init__(
        self,
        connection: socket,
        host: str,
        store: Store,
        *,
        policy: AdmissionPolicy,
        limits: AssociationLimits,
        places: Places,
        clock: Callable[[], datetime],
    ) -> None:
        self._connection = connection
        self._store = store
        self._policy = policy
        self._limits = limits
        self._places = places
        self._clock = clock
        self._stream = PduStream(connection, max_pdu_bytes=limits.max_pdu_bytes, pdu_timeout_s=limits.idle_timeout_s)
        self._fields: dict[str, object] = {"association_id": uuid.uuid4().hex, "host": host}

    def run(self) -> None:
        """Negotiate, serve, close."""
        with self._connection:
            try:
                self._negotiate_and_serve()
            except (PeerGoneError, PeerAbortedError) as error:
                log.info("association ended: %s", error, extra=self._fields)
                return
            except AssociationError as error:
                level = logging.INFO if isinstance(error, StoppingError) else logging.WARNING
                log.log(level, "association ended: %s", error, extra=self._fields)
                self._abort(error)
            except Exception:  # a defect must not take the other associations down
                log.exception("association ended: internal error", extra=self._fields)
                self._abort(AssociationError())
            self._stream.drain(CLOSE_TIMEOUT_S)

    def _negotiate_and_serve(self) -> None:
        if not self._stream.wait(self._limits.artim_timeout_s, self._places.wake):
            raise StoppingError
        pdu = self._stream.read(timeout_s=self._limits.artim_timeout_s)
        if pdu.type is not PduType.ASSOCIATE_RQ:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, f"{pdu.type.name} PDU before an association")
        request = decode_request(pdu)
        self._fields |= {"calling_ae_title": request.calling_ae_title, "called_ae_title": request.called_ae_title}
        rejection = find_rejection(request, self._policy) or self._places.claim()
        if rejection is not None:
            log.warning("association rejected: %s", rejection.name.lower(), extra=self._fields)
            self._stream.send(encode_rejection(rejection))
            return
        try:
            agreement = agree(request, max_pdu_bytes=self._limits.max_pdu_bytes)
            self._stream.send(agreement.answer)
            log.info("association accepted", extra=self._fields | {"n_contexts": len(agreement.contexts)})
            self._serve(agreement)
        finally:
            self._places.leave()

    def _serve(self, agreement: Agreement) -> None:
        """Take messages until the peer releases the association."""
        sender = Sender(
            agreement.request.calling_ae_title, agreement.request.called_ae_title, str(self._fields["association_id"])
        )
        operations: dict[int, BeginOperation] = {
            CommandField.C_STORE_RQ: StoreService(self._store, sender, self._clock).begin,
            CommandField.C_ECHO_RQ: begin_echo,
        }
        reader = MessageReader(agreement.contexts, operations)
        with self._store.associations.hold(sender.association_id) as note_message:
            try:
                n_messages = self._take_messages(reader, agreement.request.max_pdu_bytes, note_message)
            finally:
                reader.discard()
        self._stream.send(release_response())
        log.info("association released", extra=self._fields | {"n_messages": n_messages})

    def _take_messages(
        self, reader: MessageReader, peer_max_pdu_bytes: int, note_message: Callable[[datetime], None]
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
            for pdv in split_pdvs(pdu.body):
                response = reader.feed(pdv)
                if response is not None:
                    n_messages += 1
                    note_message(self._clock())
                    self._stream.send(p_data_pdus(*response, max_pdu_bytes=peer_max_pdu_bytes))
                    message_began_at = time.monotonic()
            self._check_pace(reader.message_bytes, time.monotonic() - message_began_at)

    def _wait_for_message(self) -> None:
        if self._places.is_closed or not self._stream.wait(self._limits.idle_timeout_s, self._places.wake):
            raise StoppingError

    def _check_pace(self, message_bytes: int | None, elapsed_s: float) -> None:
        """End a message that drips: each PDU is in time, but all of it would take for ever."""
        if message_bytes is not None and elapsed_s > self._limits.idle_timeout_s + message_bytes / MIN_BYTES_PER_S:
            raise PeerTooSlowError("complete message", elapsed_s)

    def _abort(self, error: AssociationError) -> None:
        try:
            self._stream.send(abort_pdu(error.abort_source, error.abort_reason))
        except AssociationError:
            log.debug("peer did not take the abort", extra=self._fields)

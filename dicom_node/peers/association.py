"""An association with a DIMSE peer as requestor, bounded in time, and the reasons why there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicom_node.peers.errors import (
    AssociationBusyError,
    AssociationRejectedError,
    ContextRefusedError,
    DeliveryError,
    PeerUnreachableError,
)
from dicom_node.settings import DimsePeer

MAX_CONTEXTS = 128  # odd IDs from 1 to 255 (PS3.8 9.3.2.2)
MAX_PDU_BYTES = 131072
CONNECT_TIMEOUT_S = 10.0
REJECTED_TRANSIENT = 2  # PS3.8 table 9-21


@contextmanager
def associate(
    peer: DimsePeer, contexts: Sequence[PresentationContext], *, calling_ae_title: str, timeout_s: float
) -> Iterator[Association]:
    """Associate with ``peer`` for the time of the block; released at its end, aborted when it raises.

    Raises
    ------
    DeliveryError
        There is no association; the class says whether trying again can help.
    """
    ae = AE(calling_ae_title)
    ae.connection_timeout = min(CONNECT_TIMEOUT_S, timeout_s)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s

    def prepare(event: evt.Event) -> None:
        transport = event.assoc.dul.socket
        if transport is None or transport.socket is None:
            return
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.socket.settimeout(timeout_s)  # else a peer that stops reading would hold its thread for ever

    try:
        association = ae.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.ae_title,
            max_pdu=MAX_PDU_BYTES,
            evt_handlers=[(evt.EVT_CONN_OPEN, prepare)],
        )
    except OSError as error:  # the name does not resolve
        raise PeerUnreachableError(peer.name, f"{peer.host}: {error.strerror or error}") from error
    if not association.is_established:
        raise _why_not(peer, association)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    else:
        association.release()


def _why_not(peer: DimsePeer, association: Association) -> DeliveryError:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        kind = AssociationBusyError if answer.result == REJECTED_TRANSIENT else AssociationRejectedError
        return kind(peer.name, answer.result_str, answer.reason_str)
    if answer is not None:  # accepted, but with none of our contexts
        return ContextRefusedError(peer.name, *_first_context(association))
    return PeerUnreachableError(peer.name, f"no association with {peer.host}:{peer.port}")


def _first_context(association: Association) -> tuple[str, str]:
    context = association.requestor.requested_contexts[0]
    return str(context.abstract_syntax), str(context.transfer_syntax[0])

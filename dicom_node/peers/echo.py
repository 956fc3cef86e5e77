"""Whether a peer is there and lets us in: C-ECHO, or a small QIDO-RS query."""

from __future__ import annotations

import httpx
from pynetdicom.presentation import VerificationPresentationContexts

from dicom_node.peers.association import associate
from dicom_node.peers.errors import (
    AssociationAbortedError,
    DeliveryError,
    EchoFailedError,
    PeerTimeoutError,
)
from dicom_node.peers.web_client import error_of_status, error_of_transport, open_client, url_of
from dicom_node.settings import DicomwebPeer, DimsePeer

TIMEOUT_S = 10.0


def check_peer(
    peer: DimsePeer | DicomwebPeer, *, calling_ae_title: str, timeout_s: float = TIMEOUT_S
) -> DeliveryError | None:
    """Why nothing can be sent to a peer now, ``None`` when it answers."""
    try:
        if isinstance(peer, DimsePeer):
            _echo(peer, calling_ae_title, timeout_s)
        else:
            _query(peer, timeout_s)
    except DeliveryError as error:
        return error
    return None


def _echo(peer: DimsePeer, calling_ae_title: str, timeout_s: float) -> None:
    with associate(
        peer, VerificationPresentationContexts, calling_ae_title=calling_ae_title, timeout_s=timeout_s
    ) as association:
        answer = association.send_c_echo()
        if "Status" not in answer:
            if not association.is_established:
                raise AssociationAbortedError(peer.name)
            raise PeerTimeoutError(peer.name, "C-ECHO response", timeout_s)
        if answer.Status != 0:
            raise EchoFailedError(peer.name, answer.Status)


def _query(peer: DicomwebPeer, timeout_s: float) -> None:
    """Ask for one study; of the answer only the HTTP status is looked at."""
    try:
        with (
            open_client(peer, timeout_s=timeout_s) as client,
            client.stream("GET", url_of(peer, "studies"), params={"limit": 1}) as response,
        ):
            if not response.is_success:
                raise error_of_status(peer, response)
    except httpx.TransportError as error:
        raise error_of_transport(peer, error, timeout_s) from error

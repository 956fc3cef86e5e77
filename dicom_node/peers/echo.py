"""Check that a peer answers and accepts the node: C-ECHO, or a small QIDO-RS query."""

from __future__ import annotations

from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.peers.association import Proposal, associate
from dicom_node.peers.errors import ContextRefusedError, DeliveryError, EchoFailedError
from dicom_node.peers.status import SUCCESS
from dicom_node.peers.web_client import WebClient, error_of_status
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.upper_layer.command_set import CommandField, Request

VERIFICATION = "1.2.840.10008.1.1"
TIMEOUT_S = 10.0


def check_peer(
    peer: DimsePeer | DicomwebPeer, *, calling_ae_title: str, timeout_s: float = TIMEOUT_S
) -> DeliveryError | None:
    """Return why nothing can be sent to a peer now, or None if it answers."""
    try:
        if isinstance(peer, DimsePeer):
            _echo(peer, calling_ae_title, timeout_s)
        else:
            _query(peer, timeout_s)
    except DeliveryError as error:
        return error
    return None


def _echo(peer: DimsePeer, calling_ae_title: str, timeout_s: float) -> None:
    verification = Proposal(VERIFICATION, ImplicitVRLittleEndian)
    with associate(peer, [verification], calling_ae_title=calling_ae_title, timeout_s=timeout_s) as association:
        context_id = association.contexts.get(verification)
        if context_id is None:
            raise ContextRefusedError(peer.name, *verification)
        request = Request(CommandField.C_ECHO_RQ, 1, VERIFICATION, "", has_data_set=False)
        status = association.perform(context_id, request).status
        if status != SUCCESS:
            raise EchoFailedError(peer.name, status)


def _query(peer: DicomwebPeer, timeout_s: float) -> None:
    """Ask for one study; only the HTTP status of the answer counts."""
    with (
        WebClient(peer, timeout_s=timeout_s) as client,
        client.request("GET", "studies", params={"limit": "1"}, deadline_s=timeout_s) as response,
    ):
        if not response.is_success:
            raise error_of_status(peer, response)

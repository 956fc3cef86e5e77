"""Send objects to a peer of either kind."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.peers.objects import ObjectToSend, SendOutcome
from dicom_node.peers.store_scu import store_over_dimse
from dicom_node.peers.stow import store_over_web
from dicom_node.settings import DicomwebPeer, DimsePeer

TIMEOUT_S = 60.0


def deliver(
    peer: DimsePeer | DicomwebPeer,
    objects: Sequence[ObjectToSend],
    *,
    calling_ae_title: str,
    timeout_s: float = TIMEOUT_S,
) -> tuple[SendOutcome, ...]:
    """Send ``objects`` by C-STORE or STOW-RS.

    Parameters
    ----------
    timeout_s
        How long the peer may take for each answer, and for accepting each piece of data.

    Returns
    -------
    tuple of SendOutcome
        One for each object, in the order of ``objects``. Errors of the peer are in the outcomes and not raised; an
        object that cannot be opened raises what its ``open`` raises.
    """
    if isinstance(peer, DimsePeer):
        return store_over_dimse(peer, objects, calling_ae_title=calling_ae_title, timeout_s=timeout_s)
    return store_over_web(peer, objects, timeout_s=timeout_s)

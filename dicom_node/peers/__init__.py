"""Client of other DICOM nodes: C-STORE, C-ECHO, C-FIND, storage commitment, and STOW-RS and QIDO-RS over HTTP."""

from dicom_node.peers.commitment import Refusal, RequestLog, request_commitment
from dicom_node.peers.count import count_instances
from dicom_node.peers.deliver import deliver
from dicom_node.peers.echo import check_peer
from dicom_node.peers.objects import ObjectToSend, SendOutcome

__all__ = [
    "ObjectToSend",
    "Refusal",
    "RequestLog",
    "SendOutcome",
    "check_peer",
    "count_instances",
    "deliver",
    "request_commitment",
]

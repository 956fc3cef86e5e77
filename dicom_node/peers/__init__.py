"""Client of others: C-STORE, C-ECHO, C-FIND and storage commitment; STOW-RS, QIDO-RS and notices over HTTP."""

from dicom_node.peers.commitment import Refusal, RequestLog, request_commitment
from dicom_node.peers.count import count_instances
from dicom_node.peers.deliver import deliver
from dicom_node.peers.echo import check_peer
from dicom_node.peers.notice import StudyNotice
from dicom_node.peers.objects import ObjectToSend, SendOutcome
from dicom_node.peers.tell import tell

__all__ = [
    "ObjectToSend",
    "Refusal",
    "RequestLog",
    "SendOutcome",
    "StudyNotice",
    "check_peer",
    "count_instances",
    "deliver",
    "request_commitment",
    "tell",
]

"""Client of other DICOM nodes: C-STORE, C-ECHO and C-FIND as an SCU, STOW-RS and QIDO-RS over HTTP."""

from dicom_node.peers.count import count_instances
from dicom_node.peers.deliver import deliver
from dicom_node.peers.echo import check_peer
from dicom_node.peers.objects import ObjectToSend, SendOutcome

__all__ = ["ObjectToSend", "SendOutcome", "check_peer", "count_instances", "deliver"]

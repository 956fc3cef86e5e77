"""Meaning of a C-STORE status or a STOW-RS failure reason for the object (PS3.4 B.2.3, PS3.18 annex I.2)."""

from __future__ import annotations

from dicom_node.peers.errors import StoreFailedForNowError, StoreRefusedError
from dicom_node.peers.objects import SendOutcome

SUCCESS = 0x0000
PENDING = frozenset({0xFF00, 0xFF01})  # of C-FIND: a match, and more may come (PS3.4 C.4.1.1.4)
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700  # to 0xA7FF
WARNINGS = frozenset({0x0001, 0x0107, 0x0116})  # and 0xB000 to 0xBFFF (PS3.7 annex C)
# The peer has an instance with this UID. The node derives UIDs from content, so it is this one: an earlier attempt
# reached the peer, and its answer was lost.
DUPLICATE_SOP_INSTANCE = 0x0111


def outcome_of_status(peer: str, sop_instance_uid: str, status: int, comment: str = "") -> SendOutcome:
    """Return the outcome for a status; a warning means that the peer has the object."""
    if status == SUCCESS:
        return SendOutcome(sop_instance_uid)
    if status in WARNINGS or status & 0xF000 == 0xB000 or status == DUPLICATE_SOP_INSTANCE:
        return SendOutcome(sop_instance_uid, warning_status=status)
    is_for_now = status == PROCESSING_FAILURE or status & 0xFF00 == OUT_OF_RESOURCES
    kind = StoreFailedForNowError if is_for_now else StoreRefusedError
    return SendOutcome(sop_instance_uid, kind(peer, sop_instance_uid, status, comment))

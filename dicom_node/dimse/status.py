"""Statuses of C-STORE and C-ECHO responses, and when they are sent (PS3.4 B.2.3, PS3.7 annex C).

======  =======  ==========================================  ====================================================
status  kind     when                                        what the sender may do
======  =======  ==========================================  ====================================================
0x0000  success  instance on disk and in the index, or the   forget it
                 same bytes were there already
0xB000  warning  another content is stored under this SOP    forget it; a person looks at the conflict. Both are
                 Instance UID: the first stays the           kept, but only the first is processed
                 instance, this one is set aside
0xA700  failure  disk watermark reached, disk full or        send it again later
                 failing, index busy for 5 s, out of memory
0xA900  failure  dataset has another SOP class or instance   repair it
                 UID than its C-STORE-RQ
0xC000  failure  header unreadable, a UID missing or         repair it
                 invalid, no dataset
0xC001  failure  dataset larger than dimse.max_object_bytes  not send it, or raise the limit here
0x0110  failure  a defect of ours; traceback in the log      tell us; other instances are not affected
0x0117  failure  C-STORE-RQ without a valid SOP Instance     repair it
                 UID
0x0122  failure  SOP class of the C-STORE-RQ is not that of  negotiate it
                 its presentation context
0x0124  failure  the peer has may_store: false               not send it here
0x0211  failure  an operation that we do not perform         not ask for it
======  =======  ==========================================  ====================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from dicom_node.dimse.errors import ObjectTooLargeError
from dicom_node.dimse.query.status import QueryStatus
from dicom_node.failures import ErrorKind, classify
from dicom_node.store import Kept, MismatchedInstanceError
from dicom_node.upper_layer.command_set import Element
from dicom_node.upper_layer.commitment import ReportStatus


class Status(IntEnum):
    """Status values of the node's responses."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    INVALID_SOP_INSTANCE = 0x0117
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORIZED = 0x0124
    UNRECOGNIZED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
    COERCION = 0xB000
    CANNOT_UNDERSTAND = 0xC000
    TOO_LARGE = 0xC001


class Answer(NamedTuple):
    """Status and Error Comment (0000,0902) of a response; the comment has at most 64 characters."""

    status: Status | ReportStatus | QueryStatus
    comment: str = ""
    elements: Mapping[Element, bytes] | None = None  # further elements of the command set
    data_set: bytes = b""


ANSWERS_TO_KEPT = {
    Kept.STORED: Answer(Status.SUCCESS),
    Kept.DUPLICATE: Answer(Status.SUCCESS),
    Kept.CONFLICT: Answer(Status.COERCION, "UID has other content here; first one stays, this is set aside"),
}


def answer_to_failure(error: Exception) -> Answer:
    """Return the answer for an instance that was not kept, without the error's text, which may name paths."""
    if isinstance(error, MismatchedInstanceError):
        return Answer(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, "SOP class or instance UID differs from the request")
    if isinstance(error, ObjectTooLargeError):
        return Answer(Status.TOO_LARGE, "larger than this node takes (dimse.max_object_bytes)")
    if isinstance(error, OSError):
        return Answer(Status.OUT_OF_RESOURCES, "cannot be written here now; send again later")
    match classify(error):
        case ErrorKind.REFUSED:
            return Answer(Status.CANNOT_UNDERSTAND, "header unreadable, or a UID missing or invalid")
        case ErrorKind.TRANSIENT:
            return Answer(Status.OUT_OF_RESOURCES, "no space or busy; send again later")
    return Answer(Status.PROCESSING_FAILURE, "internal error, see the log of the node")

"""What is said of each instance that came in over HTTP (PS3.18 10.5.3 and table I.2-2).

======  =======  ===============================================  ====================================================
reason  kind     when                                             what the sender may do
======  =======  ===============================================  ====================================================
none    success  instance on disk and in the index, or the same   forget it
                 bytes were there already
0xB000  warning  another content is stored under this SOP         forget it; a person looks at the conflict. Both are
                 Instance UID: the first stays the instance,      kept, but only the first is processed
                 this one is set aside
0xA700  failure  disk watermark reached, disk full or failing,    send it again later
                 index busy for 4 s, out of memory
0xA900  failure  dataset has another SOP class, instance UID or   repair it, or send it to ``/studies``
                 study than its file meta information or the URL
0xC000  failure  no DICOM file, header unreadable, a UID missing  repair it
                 or invalid, JSON without its bulk data
0xC001  failure  larger than dimse.max_object_bytes               not send it, or raise the limit here
0x0110  failure  a defect of ours; traceback in the log           tell us; other instances are not affected
0x0122  failure  not a storage SOP class, such as a DICOMDIR      not send it
======  =======  ===============================================  ====================================================
"""

from __future__ import annotations

from enum import IntEnum

from dicom_node.failures import ErrorKind, classify
from dicom_node.http_intake.errors import ObjectTooLargeError
from dicom_node.store import MismatchedInstanceError


class Reason(IntEnum):
    """Failure Reason (0008,1197) or Warning Reason (0008,1196); 0 for neither."""

    STORED = 0
    PROCESSING_FAILURE = 0x0110
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH = 0xA900
    COERCION = 0xB000
    CANNOT_UNDERSTAND = 0xC000
    TOO_LARGE = 0xC001


class NotStorableError(ValueError):
    """The SOP class of an instance is not for storage."""


def reason_of(error: Exception) -> Reason:
    """Return why an instance was not stored."""
    if isinstance(error, NotStorableError):
        return Reason.SOP_CLASS_NOT_SUPPORTED
    if isinstance(error, MismatchedInstanceError):
        return Reason.DATA_SET_DOES_NOT_MATCH
    if isinstance(error, ObjectTooLargeError):
        return Reason.TOO_LARGE
    if isinstance(error, OSError):
        return Reason.OUT_OF_RESOURCES
    match classify(error):
        case ErrorKind.REFUSED:
            return Reason.CANNOT_UNDERSTAND
        case ErrorKind.TRANSIENT:
            return Reason.OUT_OF_RESOURCES
    return Reason.PROCESSING_FAILURE

"""Encode requests for storage commitment, and decode and answer reports (PS3.4 annex J)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from part10.damage import PYDICOM_ERRORS
from part10.errors import Part10Error
from part10.walk import UNDEFINED_LENGTH, Walker

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"  # the well-known SOP Instance
REQUEST_COMMITMENT = 1  # action type
EVENT_TYPES = (1, 2)  # all committed; some failed
_SEQUENCES = (0x00081198, 0x00081199)  # failed, referenced
TRANSFER_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
MAX_REPORT_BYTES = 4 * 2**20  # about 25 000 instances
MAX_REPORT_ELEMENTS = 150_000  # with items and their ends; 25 000 instances have 125 000
MAX_UID_CHARACTERS = 64

SopInstance = tuple[str, str]
"""SOP Class UID and SOP Instance UID."""


class ReportStatus(IntEnum):
    """Statuses of N-EVENT-REPORT responses (PS3.7 10.1.1.1.8)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ARGUMENT = 0x0115
    NO_SUCH_CLASS = 0x0118


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """A peer's report: what it commits to keep, and what it does not, with its reasons."""

    transaction_uid: str
    committed: frozenset[SopInstance]
    failed: Mapping[SopInstance, int | None]  # Failure Reason (0008,1197)


class ReportUnreadableError(ValueError):
    """A report cannot be decoded, or has no Transaction UID."""


def encode_commitment_request(transaction_uid: str, instances: Collection[SopInstance]) -> bytes:
    """Return the action information of a request in Implicit VR Little Endian (PS3.4 table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = []
    for sop_class_uid, sop_instance_uid in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class_uid
        item.ReferencedSOPInstanceUID = sop_instance_uid
        ds.ReferencedSOPSequence.append(item)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = buffer.is_little_endian = True
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


def decode_commitment_report(encoded: bytes, transfer_syntax_uid: str) -> CommitmentReport:
    """Decode the event information of a report (PS3.4 table J.3-2).

    Raises
    ------
    ReportUnreadableError
        It cannot be decoded, or has no Transaction UID.
    """
    is_implicit_vr = transfer_syntax_uid == ImplicitVRLittleEndian
    try:
        _check_extent(encoded, is_implicit_vr)
        ds = read_dataset(BytesIO(encoded), is_implicit_vr, is_little_endian=True)
        transaction_uid = str(ds.get("TransactionUID") or "")
        committed = frozenset(_sop_instance(item) for item in ds.get("ReferencedSOPSequence") or ())
        failed = {_sop_instance(item): _reason(item) for item in ds.get("FailedSOPSequence") or ()}
    except PYDICOM_ERRORS as error:
        raise ReportUnreadableError(f"a report that cannot be decoded ({type(error).__name__})") from error
    if not transaction_uid or len(transaction_uid) > MAX_UID_CHARACTERS:
        raise ReportUnreadableError("a report without a Transaction UID")
    return CommitmentReport(transaction_uid, committed, failed)


def answer_report(
    encoded: bytes, *, event_type: int | None, transfer_syntax_uid: str, take: Callable[[CommitmentReport], bool]
) -> tuple[ReportStatus, str]:
    """Decode a report and hand it on; return status and comment of the response.

    Parameters
    ----------
    take
        Records the report; returns False if it belongs to no request to this peer.
    """
    if event_type not in EVENT_TYPES:
        return ReportStatus.NO_SUCH_EVENT_TYPE, "the event type of a report is 1 or 2"
    try:
        report = decode_commitment_report(encoded, transfer_syntax_uid)
    except ReportUnreadableError as error:
        return ReportStatus.INVALID_ARGUMENT, str(error)
    if not take(report):
        return ReportStatus.NO_SUCH_INSTANCE, "no request with this Transaction UID was sent to you"
    return ReportStatus.SUCCESS, ""


def _check_extent(encoded: bytes, is_implicit_vr: bool) -> None:
    """Raise if a report has more elements or levels than one can have: pydicom takes a kilobyte for an empty item."""
    walker = Walker(encoded, "<")
    at = n_elements = 0
    while at < len(encoded):
        tag, _, begin, n_bytes = walker.element(at, is_implicit_vr)
        if n_bytes == UNDEFINED_LENGTH:
            at = walker.sequence_end(begin, None, is_implicit_vr)
        else:
            at = begin + n_bytes
            if tag in _SEQUENCES:
                walker.sequence_end(begin, at, is_implicit_vr)
        n_elements += 1
        if n_elements + walker.n_nested > MAX_REPORT_ELEMENTS:
            raise Part10Error(f"more than {MAX_REPORT_ELEMENTS} elements")


def _sop_instance(item: Dataset) -> SopInstance:
    return str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or "")


def _reason(item: Dataset) -> int | None:
    value = item.get("FailureReason")
    return int(value) if value is not None else None

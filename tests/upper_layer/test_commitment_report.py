"""Reports of storage commitment: read as pydicom wrote them; hostile ones are refused before they take memory."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.upper_layer.commitment import MAX_REPORT_BYTES, ReportUnreadableError, decode_commitment_report

CT = "1.2.840.10008.5.1.4.1.1.2"


def encoded(ds: Dataset, transfer_syntax_uid: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = transfer_syntax_uid == ImplicitVRLittleEndian, True
    write_dataset(buffer, ds)
    return buffer.getvalue()


def references(n: int, *, first: int = 0, reason: int | None = None) -> list[Dataset]:
    items = []
    for number in range(first, first + n):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, f"1.2.{number}"
        if reason is not None:
            item.FailureReason = reason
        items.append(item)
    return items


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("is_undefined_length", [False, True])
def test_both_lists_are_read(syntax: str, is_undefined_length: bool) -> None:
    ds = Dataset()
    ds.TransactionUID = "1.2.3"
    ds.ReferencedSOPSequence = references(3)
    ds.FailedSOPSequence = references(2, first=3, reason=0x0112)
    for element in ds:
        element.is_undefined_length = is_undefined_length and element.VR == "SQ"
    report = decode_commitment_report(encoded(ds, syntax), syntax)
    assert report.transaction_uid == "1.2.3"
    assert report.committed == {(CT, "1.2.0"), (CT, "1.2.1"), (CT, "1.2.2")}
    assert report.failed == {(CT, "1.2.3"): 0x0112, (CT, "1.2.4"): 0x0112}


def test_a_report_of_twenty_thousand_instances_is_read() -> None:
    ds = Dataset()
    ds.TransactionUID = "1.2.3"
    ds.ReferencedSOPSequence = references(20_000)
    report = decode_commitment_report(encoded(ds, ImplicitVRLittleEndian), ImplicitVRLittleEndian)
    assert len(report.committed) == 20_000


@pytest.mark.parametrize(
    "nested",
    [
        pytest.param(struct.pack("<HHI", 0xFFFE, 0xE000, 0) * (MAX_REPORT_BYTES // 8 - 8), id="empty items"),
        pytest.param(
            struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0xFFFFFFFF, 0x0008, 0x1199, 0xFFFFFFFF) * 5000, id="levels"
        ),
    ],
)
def test_a_hostile_report_is_refused_before_it_takes_memory(nested: bytes) -> None:
    report = struct.pack("<HHI", 0x0008, 0x1199, len(nested)) + nested
    tracemalloc.start()
    with pytest.raises(ReportUnreadableError):
        decode_commitment_report(report, ImplicitVRLittleEndian)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 2**20

"""Small instances as a sender would hand them to the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.store import Arrival, Closing, Kept, Route, SeriesRow, Skip, Store
from dicom_node.store.objects.spool import Spool

ONLY_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For a test of what only one database does; its reason stands in the test's name."""

ROUTE = Route("everything", ("first",), ("pacs",))
T0 = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
STUDY, SERIES = "1.2.3", "1.2.3.4"


@dataclass(frozen=True)
class Sent:
    """An encoded dataset and what its sender says about it."""

    encoded: bytes
    arrival: Arrival

    def at(self, received_at: datetime) -> Sent:
        return replace(self, arrival=replace(self.arrival, received_at=received_at))

    @property
    def uid(self) -> str:
        return self.arrival.sop_instance_uid


def instance(
    number: int = 1,
    *,
    series: str = SERIES,
    study: str = STUDY,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    received_at: datetime = T0,
    n_pixel_bytes: int = 512,
    **attributes: Any,
) -> Sent:
    """One CT instance; ``attributes`` are set by keyword, None removes one."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{series}.{number}"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = series
    ds.Modality = "CT"
    ds.StudyDate = "20260228"
    ds.StudyTime = "101500"
    ds.PatientName = "Test^Person"
    ds.PatientID = "P1"
    ds.AccessionNumber = "A1"
    ds.SeriesNumber = 7
    ds.InstanceNumber = number
    ds.Rows = 16
    ds.Columns = 16
    ds.BitsAllocated = 16
    ds.PixelData = bytes(n_pixel_bytes)
    ds["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    arrival = Arrival(
        sop_class_uid=ds.get("SOPClassUID", CTImageStorage),
        sop_instance_uid=ds.get("SOPInstanceUID", f"{series}.{number}"),
        transfer_syntax_uid=transfer_syntax_uid,
        calling_ae_title="SENDER",
        association_id="a1",
        received_at=received_at,
    )
    return Sent(encode(ds, transfer_syntax_uid), arrival)


def encode(ds: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = transfer_syntax_uid == ImplicitVRLittleEndian
    buffer.is_little_endian = transfer_syntax_uid != ExplicitVRBigEndian
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


def spooled(store: Store, sent: Sent) -> Spool:
    spool = store.objects.spool(
        sop_class_uid=sent.arrival.sop_class_uid,
        sop_instance_uid=sent.arrival.sop_instance_uid,
        transfer_syntax_uid=sent.arrival.transfer_syntax_uid,
    )
    spool.write(sent.encoded)
    return spool


def keep(store: Store, sent: Sent) -> Kept:
    return store.inbox.keep(spooled(store, sent), sent.arrival)


def received_series(store: Store, *, n_instances: int = 3, series: str = SERIES, study: str = STUDY) -> SeriesRow:
    """A series of which the instances are kept."""
    for number in range(1, n_instances + 1):
        assert keep(store, instance(number, series=series, study=study)) is Kept.STORED
    return store.series.get(series)


def closing(decision: Route | Skip = ROUTE, *, digest: str = "d1", because: str = "quiet") -> Closing:
    """What is decided about a complete series."""
    return Closing(because, is_doubted=False, pipeline_digest=digest, decision=decision)

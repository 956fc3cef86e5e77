"""Attributes common to all objects we write: patient, study, equipment, times, and a UID derived from the content."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Final

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from sr_writer.codes import private_scheme_item
from sr_writer.encoding import encode_dataset, encoded_element
from sr_writer.errors import SourceHeaderError
from sr_writer.identity import copy_identity
from sr_writer.objects import MANUFACTURER, MANUFACTURER_MODEL_NAME, WrittenObject
from sr_writer.time_zone import source_time_zone
from sr_writer.version import WRITER_VERSION

REPLACES_EARLIER: Final = " (replaces earlier)"  # appended to Series Description, which people see in a viewer
_LARGEST_SERIES_NUMBER: Final = 2**31 - 1  # IS, PS3.5 table 6.2-1


def check_source_header(header: Dataset, series_instance_uid: str) -> None:
    """Raise `SourceHeaderError` if a source lacks an attribute that every derived object needs."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        if not header.get(keyword):
            raise SourceHeaderError(series_instance_uid, keyword)


def describe_result(
    header: Dataset, written_at: datetime, *, modality: str, series_number: int, pipeline_digest: str
) -> Dataset:
    """Return a dataset with the Patient, Study, Series, Equipment and SOP Common attributes of a result.

    Parameters
    ----------
    header
        A source instance, without its pixels.
    written_at
        Time-zone aware; written in the source's time zone if the source names one, because all times of an object have
        the same offset (PS3.3 C.12.1.1.8) and the copied ones are the source's.
    pipeline_digest
        Its beginning is the serial number of the device: another pipeline is another device.
    """
    zone = source_time_zone(header)
    stated_at = written_at if zone is None else written_at.astimezone(zone)
    ds = Dataset()
    copy_identity(header, ds)
    if modality != "SEG":  # an attribute of images: the Frame of Reference module (PS3.3 C.7.4.1)
        del ds.PositionReferenceIndicator
    ds.StudyInstanceUID = str(header.StudyInstanceUID)
    ds.Modality = modality
    ds.SeriesNumber = series_number
    ds.SeriesDate = ds.ContentDate = ds.InstanceCreationDate = stated_at.strftime("%Y%m%d")
    ds.SeriesTime = ds.ContentTime = ds.InstanceCreationTime = stated_at.strftime("%H%M%S")
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MANUFACTURER_MODEL_NAME
    ds.DeviceSerialNumber = pipeline_digest[:16]
    ds.SoftwareVersions = [version("dicom-node"), f"writer {WRITER_VERSION}"]
    ds.CodingSchemeIdentificationSequence = [private_scheme_item()]
    return ds


def encode_result(ds: Dataset, derive: Callable[[str], UID]) -> WrittenObject:
    """Encode a result.

    Parameters
    ----------
    derive
        Returns the SOP Instance UID for the SHA-256 of the content, so that other content has another UID.
    """
    uid_tag = Tag("SOPInstanceUID")
    before = encode_dataset(ds[:uid_tag])
    after = encode_dataset(ds[uid_tag + 1 :])
    digest = sha256(before)
    digest.update(after)
    sop_instance_uid = derive(digest.hexdigest())
    uid_only = Dataset()
    uid_only[uid_tag] = encoded_element(uid_tag, "UI", sop_instance_uid.encode("ascii"))
    return WrittenObject(
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(sop_instance_uid),
        series_instance_uid=str(ds.SeriesInstanceUID),
        study_instance_uid=str(ds.StudyInstanceUID),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        encoded_dataset=b"".join((before, encode_dataset(uid_only), after)),
    )


def series_number_after(header: Dataset, offset: int) -> int:
    """Return the source's Series Number plus an offset; the offset alone if the sum is not a valid number."""
    try:
        number = int(header.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        number = 0
    return offset + (number if 0 < number <= _LARGEST_SERIES_NUMBER - offset else 0)

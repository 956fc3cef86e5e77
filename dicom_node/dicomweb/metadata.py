"""Datasets as DICOM JSON (PS3.18 F), bulk values by reference."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.errors import NoSuchResourceError, UnreadableObjectError
from dicom_node.dicomweb.media_types import json_media_type
from dicom_node.dicomweb.multipart import stream
from dicom_node.dicomweb.parsing import parsing, read_without_pixels
from dicom_node.dicomweb.resources import path_uids, resource_name, resource_url
from dicom_node.store import InstanceRow, ObjectStore
from dicom_node.store.index.search import Search

log = logging.getLogger(__name__)

# Values of binary VRs beyond this are fetched on their own; PS3.18 leaves the choice to the server.
BULK_DATA_BYTES: Final = 1024

_BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


class MetadataService:
    """``/metadata`` of studies, series and instances."""

    def __init__(self, search: Search, objects: ObjectStore) -> None:
        self._search = search
        self._objects = objects

    def retrieve(self, request: Request) -> Response:
        """One JSON array, an object per instance, sent as the instances are read."""
        uids = path_uids(request)
        media_type = json_media_type(request, f"metadata of {resource_name(uids)}")
        rows = find_rows(self._search, uids)
        return stream(self._array(rows, request), media_type)

    def _array(self, rows: Sequence[InstanceRow], request: Request) -> Iterator[bytes]:
        separator = b"["
        for row in rows:
            yield separator + self._object(row, request)
            separator = b","
        yield b"]"

    def _object(self, row: InstanceRow, request: Request) -> bytes:
        """Metadata of an instance; of one that does not decode, what the index knows."""
        url = resource_url(request, uids_of(row))
        try:
            ds, place = read_without_pixels(self._objects, row)
            with parsing(row.sop_instance_uid):
                members = dataset_members(ds, f"{url}/bulkdata")
                if place is not None:
                    members[f"{place.tag:08X}"] = {"vr": place.vr, "BulkDataURI": f"{url}/bulkdata/{place.tag:08X}"}
                return _encoded(members)
        except UnreadableObjectError as error:
            log.warning("metadata from the index only: %s", error, extra={"sop_instance_uid": row.sop_instance_uid})
            (members,) = self._search.search_instances({"SOPInstanceUID": row.sop_instance_uid}, limit=1)
            return _encoded(members)


def find_rows(search: Search, uids: dict[str, str]) -> tuple[InstanceRow, ...]:
    """Instances below a path; `NoSuchResourceError` when there is none."""
    rows = search.find_instances(
        study_instance_uid=uids.get("StudyInstanceUID"),
        series_instance_uid=uids.get("SeriesInstanceUID"),
        sop_instance_uid=uids.get("SOPInstanceUID"),
    )
    if not rows:
        raise NoSuchResourceError(resource_name(uids))
    return rows


def uids_of(row: InstanceRow) -> dict[str, str]:
    """UIDs of an instance and of what it belongs to, by keyword."""
    return {
        "StudyInstanceUID": row.study_instance_uid,
        "SeriesInstanceUID": row.series_instance_uid,
        "SOPInstanceUID": row.sop_instance_uid,
    }


def dataset_members(ds: Dataset, bulk_data_url: str) -> dict[str, Any]:
    """Elements as members of a DICOM JSON object; those without a valid value keep tag and VR only.

    Group lengths are left out (PS3.18 F.2.2), as is the character set's name: JSON is UTF-8.
    """
    members: dict[str, Any] = {}
    for tag in sorted(ds.keys()):
        if tag.element == 0:
            continue
        element = ds[tag]
        url = f"{bulk_data_url}/{int(tag):08X}"
        members[f"{int(tag):08X}"] = _sequence(element, url) if element.VR == "SQ" else _member(element, url)
    if "00080005" in members:
        members["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return members


def _sequence(element: DataElement, url: str) -> dict[str, Any]:
    items = [dataset_members(item, f"{url}/{number}") for number, item in enumerate(element.value or (), start=1)]
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _member(element: DataElement, url: str) -> dict[str, Any]:
    if element.VR in _BULK_VRS and isinstance(element.value, bytes) and len(element.value) > BULK_DATA_BYTES:
        return {"vr": element.VR, "BulkDataURI": url}
    try:
        member = element.to_json_dict(None, BULK_DATA_BYTES)
    except (TypeError, ValueError, OverflowError):
        return {"vr": element.VR}
    # JSON has no word for infinity and not-a-number.
    if any(isinstance(value, float) and not math.isfinite(value) for value in member.get("Value", ())):
        return {"vr": element.VR}
    return member


def _encoded(members: dict[str, Any]) -> bytes:
    """In ASCII, so that a text which is no valid Unicode still makes a valid answer."""
    return json.dumps(members, allow_nan=False, separators=(",", ":")).encode("ascii")

"""Metadata of studies, series and instances (PS3.18 10.4.1.1.2)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.dicom_json import Memo, with_bulk_data_url
from dicom_node.dicomweb.errors import NoSuchResourceError, UnreadableObjectError
from dicom_node.dicomweb.json_stream import json_array, stream_json, xml_response
from dicom_node.dicomweb.kept_metadata import KeptMetadata
from dicom_node.dicomweb.media_types import DICOM_XML, metadata_type
from dicom_node.dicomweb.resources import path_uids, resource_name, resource_url
from dicom_node.store import InstanceRow, ObjectStore
from dicom_node.store.index.search import Search

log = logging.getLogger(__name__)


class MetadataService:
    """``/metadata`` of studies, series and instances."""

    def __init__(self, search: Search, objects: ObjectStore) -> None:
        self._search = search
        self._kept = KeptMetadata(objects)

    def retrieve(self, request: Request) -> Response:
        """Return a JSON array, or XML documents, with an object for each instance, sent as the instances are read."""
        uids = path_uids(request)
        media_type = metadata_type(request, f"metadata of {resource_name(uids)}")
        rows = rows_of(request, self._search, uids)
        if media_type == DICOM_XML:
            return xml_response(request, map(json.loads, self._objects_of(rows, request)))
        return stream_json(request, json_array(self._objects_of(rows, request)), media_type)

    def _objects_of(self, rows: Sequence[InstanceRow], request: Request) -> Iterator[bytes]:
        """Yield the metadata of each instance, or the attributes in the index if it cannot be decoded."""
        memo = Memo()
        for row in rows:
            try:
                encoded = self._kept.encoded(row, memo)
            except UnreadableObjectError as error:
                log.warning("metadata from the index only: %s", error, extra={"sop_instance_uid": row.sop_instance_uid})
                named = {"SOPInstanceUID": row.sop_instance_uid}
                for members in self._search.search_instances(named, limit=1, with_replaced=True):
                    yield json.dumps(members, allow_nan=False, separators=(",", ":")).encode("ascii")
            else:
                yield with_bulk_data_url(encoded, f"{resource_url(request, uids_of(row))}/bulkdata")


def rows_of(request: Request, search: Search, uids: dict[str, str]) -> tuple[InstanceRow, ...]:
    """Return the instances below the path of a request, which are looked up once; errors as `find_rows`."""
    known: tuple[InstanceRow, ...] | None = getattr(request.state, "rows", None)
    return find_rows(search, uids) if known is None else known


def find_rows(search: Search, uids: dict[str, str]) -> tuple[InstanceRow, ...]:
    """Return the instances below a path; raise `NoSuchResourceError` if there are none."""
    rows = search.find_instances(
        study_instance_uid=uids.get("StudyInstanceUID"),
        series_instance_uid=uids.get("SeriesInstanceUID"),
        sop_instance_uid=uids.get("SOPInstanceUID"),
    )
    if not rows:
        raise NoSuchResourceError(resource_name(uids))
    return rows


def uids_of(row: InstanceRow) -> dict[str, str]:
    """Return the UIDs of an instance, its series and its study, by keyword."""
    return {
        "StudyInstanceUID": row.study_instance_uid,
        "SeriesInstanceUID": row.series_instance_uid,
        "SOPInstanceUID": row.sop_instance_uid,
    }

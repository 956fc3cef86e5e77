"""WADO-URI for clients that do not speak WADO-RS: one instance, as DICOM or as a picture (PS3.18 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydicom.uid import ExplicitVRLittleEndian
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.errors import BadRequestError, NotAcceptableError
from dicom_node.dicomweb.media_types import DICOM
from dicom_node.dicomweb.metadata import find_rows
from dicom_node.dicomweb.rendering.parameters import (
    DEFAULT_QUALITY,
    MAX_VIEWPORT_PIXELS,
    RenderParameters,
    Viewport,
    Window,
    finite_number,
    make_window,
    parse_quality,
)
from dicom_node.dicomweb.rendering.picture import FORMATS
from dicom_node.dicomweb.rendering.service import RenderService
from dicom_node.dicomweb.resources import resource_name
from dicom_node.dicomweb.retrieve import RetrieveService, choose_instance
from dicom_node.store.index.search import Search

WADO_URI: Final = "/wado"
_UIDS: Final = {"studyUID": "StudyInstanceUID", "seriesUID": "SeriesInstanceUID", "objectUID": "SOPInstanceUID"}
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_JPEG: Final = "image/jpeg"
_IGNORED: Final = ("annotation", "imageAnnotation", "charset")
_MULTI_FRAME: Final = "00280008"
_ROWS: Final = "00280010"


class WadoUriService:
    """``/wado?requestType=WADO&studyUID=…&seriesUID=…&objectUID=…``."""

    def __init__(self, search: Search, retrieve: RetrieveService, rendering: RenderService) -> None:
        self._search = search
        self._retrieve = retrieve
        self._rendering = rendering

    def retrieve(self, request: Request) -> Response:
        """Return the instance as ``contentType`` says: DICOM, or a picture of one frame."""
        query = request.query_params
        if query.get("requestType") != "WADO":
            raise BadRequestError("parameter requestType", query.get("requestType", ""), "WADO")
        uids = {keyword: _uid(query, name) for name, keyword in _UIDS.items()}
        if query.get("anonymize", "no") != "no":  # never answered with what it is meant to hide
            raise BadRequestError("parameter anonymize", query["anonymize"], "no; `dicom-node export` de-identifies")
        if "presentationUID" in query:
            raise BadRequestError("parameter presentationUID", query["presentationUID"], "none: they are not applied")
        (row,) = find_rows(self._search, uids)
        media_type = self._media_type(query.get("contentType", ""), uids)
        if media_type == DICOM:
            syntax = query.get("transferSyntax", str(ExplicitVRLittleEndian))
            answer = self._retrieve.instance(row, choose_instance(row, syntax))
        else:
            answer = self._rendering.picture(row, _frame_number(query), media_type, _parameters(query))
        ignored = [name for name in _IGNORED if name in query]
        if ignored:
            answer.headers["Warning"] = f'299 dicom-node "Ignored: {", ".join(ignored)}"'
        return answer

    def _media_type(self, text: str, uids: Mapping[str, str]) -> str:
        """Return the first type that there is; without any, JPEG of a single frame, or else DICOM."""
        for wanted in text.split(","):
            media_type = wanted.partition(";")[0].strip().lower()
            if media_type == DICOM or media_type in FORMATS:
                return media_type
            if media_type in {"", "*/*", "image/*"}:
                found = next(iter(self._search.search_instances(uids, limit=1, with_replaced=True)), {})
                n_frames = found.get(_MULTI_FRAME, {}).get("Value", [1])[0] or 1
                return _JPEG if _ROWS in found and (n_frames == 1 or media_type == "image/*") else DICOM
        raise NotAcceptableError(resource_name(uids), ", ".join((DICOM, *FORMATS)))


def _uid(query: Mapping[str, str], name: str) -> str:
    uid = query.get(name, "")
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise BadRequestError(f"parameter {name}", uid, "a UID: digits and dots, at most 64")
    return uid


def _frame_number(query: Mapping[str, str]) -> int | None:
    text = query.get("frameNumber")
    return None if text is None else _whole_number("frameNumber", text, 10**9)


def _whole_number(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= most):
        raise BadRequestError(f"parameter {name}", text, f"a number from 1 to {most}")
    return int(text)


def _parameters(query: Mapping[str, str]) -> RenderParameters:
    return RenderParameters(
        _window(query),
        _viewport(query),
        _quality(query["imageQuality"]) if "imageQuality" in query else DEFAULT_QUALITY,
    )


def _quality(text: str) -> int:
    try:
        return parse_quality(text)
    except BadRequestError as error:
        raise BadRequestError("parameter imageQuality", text, error.args[2]) from error


def _window(query: Mapping[str, str]) -> Window | None:
    """Return the window of windowCenter and windowWidth, which come together."""
    texts = [query.get(name) for name in ("windowCenter", "windowWidth")]
    if texts == [None, None]:
        return None
    center, width = (None if text is None else finite_number(text) for text in texts)
    found = ", ".join(f"{name}={query.get(name, '')}" for name in ("windowCenter", "windowWidth"))
    if center is None or width is None:
        raise BadRequestError("windowCenter and windowWidth", found, "two numbers")
    return make_window(center, width, "linear", found)


def _viewport(query: Mapping[str, str]) -> Viewport | None:
    """Return rows, columns and region; the region is left, top, right, bottom in fractions of the image."""
    size = {
        name: _whole_number(name, query[name], MAX_VIEWPORT_PIXELS) for name in ("columns", "rows") if name in query
    }
    if "region" not in query:
        return Viewport(size.get("columns"), size.get("rows")) if size else None
    numbers = [finite_number(part) for part in query["region"].split(",")]
    sides = [number for number in numbers if number is not None and 0.0 <= number <= 1.0]
    if len(sides) != 4 or len(numbers) != 4 or sides[0] >= sides[2] or sides[1] >= sides[3]:
        expected = "left,top,right,bottom from 0 to 1, such as 0.25,0.25,0.75,0.75"
        raise BadRequestError("parameter region", query["region"], expected)
    left, top, right, bottom = sides
    width, height = right - left, bottom - top
    return Viewport(size.get("columns"), size.get("rows"), left, top, width, height, is_in_fractions=True)

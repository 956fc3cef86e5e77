"""What this server can do, as WADL and as JSON, in answer to OPTIONS (PS3.18 8.9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree import ElementTree as ET

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dicom_node.dicomweb.errors import NotAcceptableError
from dicom_node.dicomweb.media_types import DICOM, DICOM_JSON, JSON, MULTIPART, OCTET_STREAM, accepted_ranges
from dicom_node.dicomweb.rendering.picture import FORMATS
from dicom_node.dicomweb.resources import ROOT, base_url
from dicom_node.dicomweb.zip_stream import ZIP

WADL: Final = "application/vnd.sun.wadl+xml"
ANY_METHOD: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_NAMESPACE: Final = "http://wadl.dev.java.net/2009/02"
_STUDY: Final = "/studies/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_INSTANCES_AS: Final = (f'{MULTIPART}; type="{DICOM}"', ZIP)
_SEARCH: Final = ("limit", "offset", "includefield", "fuzzymatching")
_RENDER: Final = ("accept", "window", "viewport", "quality")


@dataclass(frozen=True, slots=True)
class Capability:
    """One resource: what it is called in PS3.18, and what it takes and returns by method."""

    path: str
    name: str
    returned: Sequence[str]
    parameters: Sequence[str] = ()
    taken: Mapping[str, Sequence[str]] = field(default_factory=dict)  # method → media types of its body


def capabilities(*, stores: bool, deletes: bool) -> list[Capability]:
    """Return all resources below the root of DICOMweb."""
    posted = {"POST": (f'{MULTIPART}; type="{DICOM}"', f'{MULTIPART}; type="{DICOM_JSON}"', DICOM)} if stores else {}
    deleted: Mapping[str, Sequence[str]] = {"DELETE": ()} if deletes else {}
    json = (DICOM_JSON, JSON)
    found = [
        Capability("/studies", "SearchForStudies", json, _SEARCH, posted),
        Capability("/series", "SearchForSeries", json, _SEARCH),
        Capability("/instances", "SearchForInstances", json, _SEARCH),
        Capability(_STUDY, "RetrieveStudy", _INSTANCES_AS, taken=posted),
        Capability(_STUDY + "/series", "SearchForStudySeries", json, _SEARCH),
        Capability(_STUDY + "/instances", "SearchForStudyInstances", json, _SEARCH),
        Capability(_SERIES, "RetrieveSeries", _INSTANCES_AS, taken=deleted),
        Capability(_SERIES + "/instances", "SearchForStudySeriesInstances", json, _SEARCH),
        Capability(_INSTANCE, "RetrieveInstance", (DICOM, *_INSTANCES_AS), taken=deleted),
        Capability(_INSTANCE + "/frames/{frames}", "RetrieveFrames", (f'{MULTIPART}; type="{OCTET_STREAM}"',)),
        Capability(_INSTANCE + "/bulkdata/{path}", "RetrieveBulkData", (OCTET_STREAM,)),
    ]
    for path, level in ((_STUDY, "Study"), (_SERIES, "Series"), (_INSTANCE, "Instance")):
        found.append(Capability(path + "/metadata", f"Retrieve{level}Metadata", json))
    for path, level in (
        (_STUDY, "Study"), (_SERIES, "Series"), (_INSTANCE, "Instance"), (_INSTANCE + "/frames/{frames}", "Frame"),
    ):  # fmt: skip
        pictures = (*FORMATS, f'{MULTIPART}; type="image/jpeg"')
        found.append(Capability(path + "/rendered", f"RetrieveRendered{level}", pictures, _RENDER))
        found.append(Capability(path + "/thumbnail", f"Retrieve{level}Thumbnail", tuple(FORMATS), _RENDER))
    return sorted(found, key=lambda capability: capability.path)


class CapabilitiesService:
    """``OPTIONS`` of DICOMweb's root and of every resource below it."""

    def __init__(self, found: Sequence[Capability]) -> None:
        self._found = found

    def options(self, request: Request) -> Response:
        """Return all capabilities as WADL, or as JSON where that is preferred; Allow says what this path takes.

        Raises
        ------
        HTTPException
            Another method brought the request here, because no resource takes it.
        """
        methods = self._methods(request.scope["path"].removeprefix(ROOT))
        headers = {"Allow": ", ".join(methods)}
        if request.method != "OPTIONS":
            is_known = len(methods) > 1
            raise HTTPException(405 if is_known else 404, headers=headers if is_known else None)
        for accepted in accepted_ranges(request):
            if accepted.media_type in {WADL, "application/xml", "*/*", "application/*"}:
                return Response(self._wadl(request), media_type=WADL, headers=headers)
            if accepted.media_type in {JSON, DICOM_JSON}:
                return JSONResponse(self._json(request), headers=headers)
        raise NotAcceptableError("capabilities", f"{WADL} or {JSON}")

    def _methods(self, path: str) -> list[str]:
        """Return the methods of the resource that a path is one of."""
        methods = {"OPTIONS"}
        for one in self._found:
            if _has_form(path.removeprefix("/").split("/"), one.path.removeprefix("/").split("/")):
                methods |= {"GET", "HEAD", *one.taken}
        return sorted(methods)

    def _json(self, request: Request) -> dict[str, Any]:
        resources = [
            {
                "path": one.path,
                "methods": {
                    "GET": {"name": one.name, "returns": list(one.returned), "parameters": list(one.parameters)},
                    **{method: {"takes": list(types)} for method, types in one.taken.items()},
                },
            }
            for one in self._found
        ]
        return {"base": f"{base_url(request)}{ROOT}", "resources": resources}

    def _wadl(self, request: Request) -> bytes:
        application = ET.Element("application", {"xmlns": _NAMESPACE})
        resources = ET.SubElement(application, "resources", {"base": f"{base_url(request)}{ROOT}"})
        for one in self._found:
            resource = ET.SubElement(resources, "resource", {"path": one.path.strip("/")})
            got = ET.SubElement(resource, "method", {"name": "GET", "id": one.name})
            asked = ET.SubElement(got, "request")
            for name in one.parameters:
                ET.SubElement(asked, "param", {"name": name, "style": "query"})
            answer = ET.SubElement(got, "response", {"status": "200"})
            for media_type in one.returned:
                ET.SubElement(answer, "representation", {"mediaType": media_type})
            for method, taken in one.taken.items():
                other = ET.SubElement(resource, "method", {"name": method})
                body = ET.SubElement(other, "request")
                for media_type in taken:
                    ET.SubElement(body, "representation", {"mediaType": media_type})
        return bytes(ET.tostring(application, encoding="utf-8", xml_declaration=True))


def _has_form(path: Sequence[str], form: Sequence[str]) -> bool:
    if form[-1] == "{path}":
        return len(path) >= len(form) and _has_form(path[: len(form) - 1], form[:-1])
    return len(path) == len(form) and all(
        there.startswith("{") or there == here for here, there in zip(path, form, strict=True)
    )

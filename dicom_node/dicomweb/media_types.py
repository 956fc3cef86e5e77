"""What a client accepts (PS3.18 8.7), read from the Accept header or the ``accept`` parameter."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from dicom_node.dicomweb.errors import NotAcceptableError

DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"
MULTIPART: Final = "multipart/related"
ANY_TRANSFER_SYNTAX: Final = "*"

_MAX_RANGES: Final = 64
# One member of a comma-separated list whose quoted strings may hold commas.
_LIST_MEMBER: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_PARAMETER: Final = re.compile(r';\s*([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s]+)')


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One accepted media type; ``parameters`` by lower-case name, unquoted."""

    media_type: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def part_type(self) -> str:
        """Type of the parts of a multipart range, of anything where it names none."""
        return self.parameters.get("type", "*/*").lower()

    @property
    def transfer_syntax_uid(self) -> str | None:
        """Transfer syntax asked for; ``*`` is any, ``None`` is not said."""
        return self.parameters.get("transfer-syntax")


def accepted_ranges(request: Request) -> tuple[MediaRange, ...]:
    """What the client accepts; anything where it does not say."""
    text = request.query_params.get("accept") or ",".join(request.headers.getlist("accept"))
    ranges = []
    for member in _LIST_MEMBER.findall(text)[:_MAX_RANGES]:
        media_type = member.partition(";")[0].strip().lower()
        parameters = {name.lower(): _unquoted(value) for name, value in _PARAMETER.findall(member)}
        if media_type and not _is_excluded(parameters):
            ranges.append(MediaRange(media_type, parameters))
    return tuple(ranges) if text.strip() else (MediaRange("*/*"),)


def json_media_type(request: Request, resource: str) -> str:
    """The JSON media type to answer with."""
    accepted = {accepted.media_type for accepted in accepted_ranges(request)}
    if accepted & {DICOM_JSON, "*/*", "application/*"}:
        return DICOM_JSON
    if JSON in accepted:
        return JSON
    raise NotAcceptableError(resource, DICOM_JSON)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _is_excluded(parameters: dict[str, str]) -> bool:
    return re.fullmatch(r"0(\.0{0,3})?", parameters.get("q", "1")) is not None

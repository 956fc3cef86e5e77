"""Parse what a client accepts (PS3.18 8.7), from the Accept header or the ``accept`` parameter."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from dicom_node.dicomweb.errors import BadRequestError, NotAcceptableError

DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
JSON: Final = "application/json"
DICOM_XML: Final = "application/dicom+xml"
OCTET_STREAM: Final = "application/octet-stream"
MULTIPART: Final = "multipart/related"
ANY_TRANSFER_SYNTAX: Final = "*"

MAX_ACCEPT_CHARACTERS: Final = 4096
MAX_RANGES: Final = 64
# Every character is in exactly one token, and no quantifier backtracks: linear time, whatever a client sends.
_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*+)("?)|[,;]|[^",;]++', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_ZERO_WEIGHT: Final = re.compile(r"0(\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One accepted media type; ``parameters`` by lower-case name, unquoted."""

    media_type: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def part_type(self) -> str:
        """Type of the parts of a multipart range; any type if it names none."""
        return self.parameters.get("type", "*/*").lower()

    @property
    def transfer_syntax_uid(self) -> str | None:
        """Requested transfer syntax; ``*`` means any, ``None`` not specified."""
        return self.parameters.get("transfer-syntax")


def accepted_ranges(request: Request) -> tuple[MediaRange, ...]:
    """Return the media ranges that the client accepts; any if it does not say.

    Raises
    ------
    BadRequestError
        The header is longer or has more ranges than any client needs, or a quoted string in it has no end.
    """
    text = request.query_params.get("accept") or ",".join(request.headers.getlist("accept"))
    if not text.strip():
        return (MediaRange("*/*"),)
    if len(text) > MAX_ACCEPT_CHARACTERS:
        raise BadRequestError("Accept", f"{len(text)} characters", f"at most {MAX_ACCEPT_CHARACTERS}")
    ranges = []
    for media_type, *texts in _split_ranges(text):
        parameters = dict(_parameter(parameter) for parameter in texts)
        if media_type.strip() and not _is_excluded(parameters):
            ranges.append(MediaRange(media_type.strip().lower(), parameters))
    return tuple(ranges)


def parse_media_type(text: str) -> MediaRange:
    """Return the one media type of a Content-Type header, with its parameters.

    Raises
    ------
    BadRequestError
        It is longer than any, or a quoted string in it has no end.
    """
    if len(text) > MAX_ACCEPT_CHARACTERS:
        raise BadRequestError("Content-Type", f"{len(text)} characters", f"at most {MAX_ACCEPT_CHARACTERS}")
    media_type, *texts = _split_ranges(text)[0]
    return MediaRange(media_type.strip().lower(), dict(_parameter(parameter) for parameter in texts))


def json_media_type(request: Request, resource: str) -> str:
    """Return the JSON media type for the answer."""
    accepted = {accepted.media_type for accepted in accepted_ranges(request)}
    if accepted & {DICOM_JSON, "*/*", "application/*"}:
        return DICOM_JSON
    if JSON in accepted:
        return JSON
    raise NotAcceptableError(resource, f'{DICOM_JSON}, or {MULTIPART}; type="{DICOM_XML}"')


def metadata_type(request: Request, resource: str) -> str:
    """Return the media type for attributes: JSON, or XML in parts if the client takes that and no JSON."""
    ranges = accepted_ranges(request)
    is_json = any(one.media_type in {DICOM_JSON, JSON, "*/*", "application/*"} for one in ranges)
    takes_xml = any(one.media_type == MULTIPART and one.part_type in {DICOM_XML, "*/*"} for one in ranges)
    return DICOM_XML if takes_xml and not is_json else json_media_type(request, resource)


def single_document_type(request: Request, resource: str) -> str:
    """Return the media type for one data set: JSON, or XML if the client takes that and no JSON."""
    accepted = {accepted.media_type for accepted in accepted_ranges(request)}
    is_json = not accepted.isdisjoint({DICOM_JSON, JSON, "*/*", "application/*"})
    return DICOM_XML if DICOM_XML in accepted and not is_json else json_media_type(request, resource)


def _split_ranges(text: str) -> list[list[str]]:
    """Split at commas; return each text as its media type and its parameters, unquoted (RFC 9110 5.6)."""
    ranges = [[""]]
    for token in _TOKEN.finditer(text):
        quoted, closing_quote = token.groups()
        if closing_quote == "":
            raise BadRequestError("Accept", text, "a closing quote for every opening one")
        if quoted is not None:
            ranges[-1][-1] += _ESCAPED.sub(r"\1", quoted)
        elif token[0] == ",":
            ranges.append([""])
            if len(ranges) > MAX_RANGES:
                raise BadRequestError("Accept", "a longer list", f"at most {MAX_RANGES} media types")
        elif token[0] == ";":
            ranges[-1].append("")
        else:
            ranges[-1][-1] += token[0]
    return ranges


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip()


def _is_excluded(parameters: dict[str, str]) -> bool:
    return _ZERO_WEIGHT.fullmatch(parameters.get("q", "1")) is not None

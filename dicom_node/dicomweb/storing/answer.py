"""The answer to a Store request: which instances are stored, and why others are not (PS3.18 10.5.3 and I.2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.media_types import DICOM_XML
from dicom_node.dicomweb.native_xml import native_xml
from dicom_node.dicomweb.problems import RETRY_AFTER_S
from dicom_node.dicomweb.resources import resource_url
from dicom_node.http_intake.outcomes import Outcome
from dicom_node.http_intake.reasons import Reason

MAX_COMMENT_CHARACTERS: Final = 64  # VR LO
_RETRIEVE_URL: Final = "00081190"
_FAILED_SOP_SEQUENCE: Final = "00081198"
_REFERENCED_SOP_SEQUENCE: Final = "00081199"
_OTHER_FAILURES_SEQUENCE: Final = "0008119A"
_SOP_CLASS_UID: Final = "00081150"
_SOP_INSTANCE_UID: Final = "00081155"
_WARNING_REASON: Final = "00081196"
_FAILURE_REASON: Final = "00081197"
_ERROR_COMMENT: Final = "00000902"


def status_of(outcomes: Sequence[Outcome]) -> HTTPStatus:
    """Return the status of an answer: 200 all, 202 some or with warnings, 409 none; 503 if none fits here now."""
    stored = [outcome for outcome in outcomes if outcome.is_stored]
    if not stored:
        is_full = all(outcome.reason is Reason.OUT_OF_RESOURCES for outcome in outcomes)
        return HTTPStatus.SERVICE_UNAVAILABLE if is_full else HTTPStatus.CONFLICT
    is_plain = len(stored) == len(outcomes) and all(outcome.reason is Reason.STORED for outcome in stored)
    return HTTPStatus.OK if is_plain else HTTPStatus.ACCEPTED


def store_response(request: Request, outcomes: Sequence[Outcome], media_type: str) -> Response:
    """Return the Store Instances Response as DICOM JSON or XML."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.part_number)
    status = status_of(ordered)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    members = response_dataset(request, ordered)
    if media_type == DICOM_XML:
        body = native_xml(members)
    else:
        body = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status_code=int(status), media_type=media_type, headers=headers)


def response_dataset(request: Request, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the response as a DICOM JSON object."""
    stored = [outcome for outcome in outcomes if outcome.uids is not None]
    named = [outcome for outcome in outcomes if not outcome.is_stored and outcome.sop_instance_uid]
    nameless = [outcome for outcome in outcomes if not outcome.is_stored and not outcome.sop_instance_uid]
    studies = {outcome.uids["StudyInstanceUID"] for outcome in stored if outcome.uids}
    members: dict[str, Any] = {}
    if len(studies) == 1:
        members[_RETRIEVE_URL] = _value("UR", resource_url(request, {"StudyInstanceUID": studies.pop()}))
    for tag, items in (
        (_FAILED_SOP_SEQUENCE, [_failed(outcome) for outcome in named]),
        (_REFERENCED_SOP_SEQUENCE, [_stored(request, outcome) for outcome in stored]),
        (_OTHER_FAILURES_SEQUENCE, [_failed(outcome) for outcome in nameless]),
    ):
        if items:
            members[tag] = {"vr": "SQ", "Value": items}
    return members


def _stored(request: Request, outcome: Outcome) -> dict[str, Any]:
    item = _reference(outcome)
    if outcome.uids:
        item[_RETRIEVE_URL] = _value("UR", resource_url(request, outcome.uids))
    if outcome.reason is not Reason.STORED:
        item[_WARNING_REASON] = _value("US", int(outcome.reason))
    return dict(sorted((item | _comment(outcome)).items()))


def _failed(outcome: Outcome) -> dict[str, Any]:
    item = _reference(outcome) | {_FAILURE_REASON: _value("US", int(outcome.reason))}
    return dict(sorted((item | _comment(outcome)).items()))


def _reference(outcome: Outcome) -> dict[str, Any]:
    if not outcome.sop_instance_uid:
        return {}
    return {
        _SOP_CLASS_UID: _value("UI", outcome.sop_class_uid),
        _SOP_INSTANCE_UID: _value("UI", outcome.sop_instance_uid),
    }


def _comment(outcome: Outcome) -> dict[str, Any]:
    """Error Comment says which part it is about, and why; PS3.18 has no attribute for either."""
    if not outcome.words:
        return {}
    where = f"part {outcome.part_number}{f' ({outcome.name})' if outcome.name else ''}: "
    text = outcome.words if outcome.is_stored else where + outcome.words
    return {_ERROR_COMMENT: _value("LO", text[:MAX_COMMENT_CHARACTERS])}


def _value(vr: str, value: object) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}

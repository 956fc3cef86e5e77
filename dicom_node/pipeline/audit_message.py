"""Entries of the audit trail as DICOM audit messages (PS3.15 A.5).

An entry becomes the event of PS3.15 A.5.3 that fits best; its own word for what was done is the event's type, in the
private scheme `SCHEME`, so that nothing is lost.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET

from dicom_node.store import AuditRow

SCHEME: Final = "99DICOMNODE"
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")
_ABOUT_STUDIES: Final = frozenset({"decided", "exported", "export-withdrawn", "retrieved", "study-deleted", "uploaded"})
_ABOUT_ADDRESSES: Final = frozenset({"association-rejected", "searched", "sign-in-failed"})
_NOT_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
_FAILED: Final = "4"  # minor failure
_SUCCESS: Final = "0"
_APPLICATION_SERVER: Final = "4"  # audit source type


@dataclass(frozen=True, slots=True)
class Event:
    """An event of DICOM: CID 400, the action (C, R, U, D, E), CID 401 where one fits, and its outcome."""

    code: str
    meaning: str
    action: str
    type_code: tuple[str, str] | None = None
    outcome: str = _SUCCESS


_TRANSFERRED: Final = ("110104", "DICOM Instances Transferred")
_AUTHENTICATION: Final = ("110114", "User Authentication")
_ALERT: Final = ("110113", "Security Alert")
_SECURITY: Final = ("110129", "Security Configuration")
_EVENTS: Final[Mapping[str, Event]] = {
    "association": Event(*_TRANSFERRED, "C"),
    "instances-received": Event(*_TRANSFERRED, "C"),
    "uploaded": Event("110107", "Import", "C"),
    "retrieved": Event(*_TRANSFERRED, "R"),
    "read": Event("110103", "DICOM Instances Accessed", "R"),
    "searched": Event("110112", "Query", "E"),
    "exported": Event("110106", "Export", "R"),
    "export-withdrawn": Event("110106", "Export", "D"),
    "study-deleted": Event("110105", "DICOM Study Deleted", "D"),
    "sources-deleted": Event("110105", "DICOM Study Deleted", "D"),
    "results withdrawn": Event("110103", "DICOM Instances Accessed", "D"),
    "signed-in": Event(*_AUTHENTICATION, "E", ("110122", "Login")),
    "signed-out": Event(*_AUTHENTICATION, "E", ("110123", "Logout")),
    "token-used": Event(*_AUTHENTICATION, "E", ("110122", "Login")),
    "sign-in-failed": Event(*_AUTHENTICATION, "E", ("110122", "Login"), _FAILED),
    "association-rejected": Event(*_ALERT, "E", ("110126", "Node Authentication"), _FAILED),
    "not-permitted": Event(*_ALERT, "E", ("110132", "Use of Restricted Function"), _FAILED),
    "foreign-request": Event(*_ALERT, "E", ("110132", "Use of Restricted Function"), _FAILED),
    "deletion refused": Event(*_ALERT, "E", ("110132", "Use of Restricted Function"), _FAILED),
    "token-created": Event(*_ALERT, "E", _SECURITY),
    "token-revoked": Event(*_ALERT, "E", _SECURITY),
    "settings-changed": Event(*_ALERT, "E", _SECURITY),
}
_OTHER: Final = Event("110100", "Application Activity", "E")


def audit_message(entry: AuditRow, *, source: str, position: int, digest: str) -> bytes:
    """Return an entry as XML.

    Parameters
    ----------
    source
        Name of this node.
    position, digest
        The entry's place in the hash chain, so that the receiver can check the chain.
    """
    event = _EVENTS.get(entry.action, _OTHER)
    outcome = _FAILED if entry.detail.get("failed") or entry.detail.get("n_failed") else event.outcome
    message = ET.Element("AuditMessage")
    identification = ET.SubElement(
        message,
        "EventIdentification",
        {
            "EventActionCode": event.action,
            "EventDateTime": entry.occurred_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "EventOutcomeIndicator": outcome,
        },
    )
    _code(identification, "EventID", event.code, event.meaning)
    if event.type_code is not None:
        _code(identification, "EventTypeCode", *event.type_code)
    action = _text(entry.action)
    _code(identification, "EventTypeCode", action.replace(" ", "-"), action, scheme=SCHEME)
    _participant(message, entry)
    node = {"UserID": _text(source), "UserIsRequestor": "false"}
    _code(ET.SubElement(message, "ActiveParticipant", node), "RoleIDCode", "110150", "Application")
    audit_source = ET.SubElement(message, "AuditSourceIdentification", {"AuditSourceID": _text(source)})
    ET.SubElement(audit_source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    _object(message, entry, {"position": position, "digest": digest})
    return bytes(ET.tostring(message, encoding="utf-8", xml_declaration=True))


def _participant(message: ET.Element, entry: AuditRow) -> None:
    """Add who did it."""
    who = {"UserID": _text(entry.actor) or "unknown", "UserIsRequestor": "true"}
    address = entry.detail.get("address") or (entry.subject if entry.action in _ABOUT_ADDRESSES else None)
    if address:
        who |= {"NetworkAccessPointID": _text(str(address)), "NetworkAccessPointTypeCode": "2"}  # an IP address
    ET.SubElement(message, "ActiveParticipant", who)


def _object(message: ET.Element, entry: AuditRow, chain: Mapping[str, object]) -> None:
    """Add what it was done to, with the entry's details."""
    is_uid = entry.action not in _ABOUT_ADDRESSES and _UID.fullmatch(entry.subject)
    role = {"ParticipantObjectTypeCode": "2", "ParticipantObjectTypeCodeRole": "3"}  # system object, report
    about = ET.SubElement(
        message, "ParticipantObjectIdentification", {"ParticipantObjectID": _text(entry.subject) or "-", **role}
    )
    kind = "ParticipantObjectIDTypeCode"
    if is_uid and entry.action in _ABOUT_STUDIES:
        name = "Study Instance UID"
        _code(about, kind, "110180", name)
    elif is_uid:
        name = "UID of a study, a series or an instance"
        _code(about, kind, "uid", name, scheme=SCHEME)
    else:
        name = "Node ID"
        _code(about, kind, "110182", name)
    ET.SubElement(about, "ParticipantObjectName").text = name  # the schema wants one, and nothing here has a name
    for name, value in {**entry.detail, **chain}.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        encoded = base64.b64encode(text.encode(errors="replace")).decode()
        ET.SubElement(about, "ParticipantObjectDetail", {"type": _text(name), "value": encoded})


def _text(value: str) -> str:
    """Return a text without characters that XML cannot have: a peer may call itself anything."""
    return _NOT_XML.sub("\ufffd", value)


def _code(parent: ET.Element, name: str, code: str, meaning: str, *, scheme: str = "DCM") -> None:
    ET.SubElement(parent, name, {"csd-code": code, "codeSystemName": scheme, "originalText": meaning})

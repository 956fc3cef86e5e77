"""Every kind of entry is an audit message as the schema of PS3.15 A.5.1 has it, with codes that DICOM has."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from pydicom.sr.codedict import codes

from dicom_node.pipeline.audit_message import audit_message
from dicom_node.store import AuditRow

SCHEMA = Path(__file__).with_name("audit_message.rng")
SOURCES = Path(__file__).parents[2] / "dicom_node"
AT = datetime(2026, 3, 4, 12, 0, 0, 250_000, tzinfo=UTC)
# Which events DICOM has (PS3.16 CID 400), the types of the node's events (CID 401), roles and kinds of names.
EVENTS = {"110100", "110101", "110102", "110103", "110104", "110105", "110106", "110107", "110108", "110109", "110110",
          "110111", "110112", "110113", "110114"}  # fmt: skip
TYPES = {"110122", "110123", "110126", "110129", "110132"}
MEANINGS = {
    one.value: one.meaning for name in dir(codes.DCM) if name[:1].isupper() and (one := getattr(codes.DCM, name))
}
ODD = ("", 'Änna <admin> & "co"', "tab\there", "line\nbreak", "\ud83d\ude00", "\u0001\ufffe")


def written_actions() -> set[str]:
    """The words for what was done, wherever the node writes an entry."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    calls = r"(?:add_audit\(\s*\w+,|audit\.record\(|audit_buffer\.note\(|identifier\.refused\(|self\.refused\()\s*"
    return set(re.findall(calls + r'"([\w -]+)"', text))


def entry(action: str, subject: str = "1.2.840.1", **values: Any) -> AuditRow:
    given = {"actor": "A. Example", "detail": {"address": "192.0.2.7", "n": 1}, "occurred_at": AT} | values
    return AuditRow(id=1, action=action, subject=subject, **given)


def message(row: AuditRow) -> etree._Element:
    return etree.fromstring(audit_message(row, source="NODE", position=1, digest="0" * 64))


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(file=str(SCHEMA))


def test_every_action_that_the_node_writes_is_valid(schema: etree.RelaxNG) -> None:
    actions = written_actions()
    assert len(actions) > 15
    assert {"exported", "token-created", "signed-in", "study-deleted", "retrieved"} <= actions
    for action in {*actions, "decided", "settings-changed", "something new"}:
        for subject in ("1.2.840.1", "192.0.2.7", "node"):
            schema.assertValid(message(entry(action, subject)))


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_whatever_somebody_is_called_the_message_is_valid(schema: etree.RelaxNG, odd: str) -> None:
    schema.assertValid(message(entry("decided", odd, actor=odd, detail={"reason": odd, odd or "empty": 1})))


def test_codes_are_those_of_dicom() -> None:
    for action in written_actions():
        for element in message(entry(action)).iter():
            code = element.get("csd-code")
            if element.get("codeSystemName") != "DCM":
                continue
            assert code in (EVENTS if element.tag == "EventID" else TYPES | {"110150", "110180", "110182"}), action
            assert element.get("originalText") == MEANINGS.get(code, element.get("originalText"))


def test_the_schema_notices_what_is_missing(schema: etree.RelaxNG) -> None:
    for path in ("EventIdentification", "ActiveParticipant", "AuditSourceIdentification", ".//ParticipantObjectName"):
        broken = message(entry("read"))
        for found in broken.findall(path):
            found.getparent().remove(found)
        assert not schema.validate(broken), path

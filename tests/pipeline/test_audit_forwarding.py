"""Audit messages (PS3.15 A.5) to a syslog receiver: their form, their order, and what happens while it is away."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from dicom_node.pipeline.audit_forwarding import AuditForwarder
from dicom_node.settings import AuditSettings, SettingsError, load_settings
from dicom_node.store import Store
from tests.new_store import NewStore
from tests.syslog_receiver import receiving

AT = datetime(2026, 3, 4, 12, 0, 0, 250_000, tzinfo=UTC)
ORDER = ["EventIdentification", "ActiveParticipant", "ActiveParticipant", "AuditSourceIdentification",
         "ParticipantObjectIdentification"]  # fmt: skip


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "node") as opened:
        yield opened


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself, with its key in the same file."""
    folder = tmp_path_factory.mktemp("certificate")
    key, path = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=audit",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


def forwarder(store: Store, **settings: Any) -> AuditForwarder:
    chosen = AuditSettings(**settings)
    return AuditForwarder(store, chosen, source="NODE", must_stop=lambda: False)


def record(store: Store, action: str, **values: Any) -> None:
    given = {"actor": "A. Example", "subject": "1.2.840.1", "now": AT} | values
    store.audit.record(action, **given)
    store.audit_chain.seal()


def xml_of(message: bytes) -> ET.Element:
    header, _, xml = message.partition(b"\xef\xbb\xbf")
    host = rb"[!-~]{1,255}"
    pattern = rb"<85>1 2026-03-04T12:00:00\.250Z " + host + rb" dicom-node \d+ DICOM\+RFC3881 - "
    assert re.fullmatch(pattern, header), header
    return ET.fromstring(xml)


@pytest.mark.parametrize("kind", ["udp", "tcp", "tls"])
def test_every_entry_arrives_whole_and_in_order(store: Store, certificate: Path, kind: str) -> None:
    with receiving(kind, certificate) as receiver:
        for number in range(3):
            record(store, "exported", actor="Änna <admin>", subject=f"1.2.{number}", detail={"target": "peer:ü"})
        files = {"syslog_ca_file": certificate} if kind == "tls" else {}
        sender = forwarder(store, syslog=receiver.url, **files)
        sender.forward()
        messages = [xml_of(message) for message in receiver.take(3)]
        found = [one.find("ParticipantObjectIdentification").get("ParticipantObjectID") for one in messages]  # type: ignore[union-attr]
        assert found == ["1.2.0", "1.2.1", "1.2.2"]
        assert [child.tag for child in messages[0]] == ORDER
        about = messages[0].find("ParticipantObjectIdentification/ParticipantObjectIDTypeCode")
        assert about is not None
        assert about.get("csd-code") == "110180"  # Study Instance UID
        participant = messages[0].find("ActiveParticipant")
        assert participant is not None
        assert participant.attrib == {"UserID": "Änna <admin>", "UserIsRequestor": "true"}
        details = {
            one.get("type"): base64.b64decode(one.get("value", "")).decode()
            for one in messages[1].iter("ParticipantObjectDetail")
        }
        assert details == {"target": "peer:ü", "position": "2", "digest": store.audit_chain.after(1)[0].digest}
        sender.forward()
        record(store, "exported", subject="1.2.3")
        sender.forward()
        (last,) = receiver.take(1)
        assert b"1.2.3" in last
        assert receiver.messages.empty()  # nothing twice


@pytest.mark.parametrize(
    ("action", "values", "event", "types", "outcome"),
    [
        ("association", {"subject": "ab12", "detail": {"address": "192.0.2.7"}}, "110104", ["association"], "0"),
        ("association", {"subject": "ab12", "detail": {"failed": {"C-STORE": 1}}}, "110104", ["association"], "4"),
        ("association-rejected", {"subject": "192.0.2.7"}, "110113", ["110126", "association-rejected"], "4"),
        ("searched", {"subject": "192.0.2.7"}, "110112", ["searched"], "0"),
        ("signed-in", {"subject": "oidc"}, "110114", ["110122", "signed-in"], "0"),
        ("sign-in-failed", {"subject": "::1"}, "110114", ["110122", "sign-in-failed"], "4"),
        ("uploaded", {}, "110107", ["uploaded"], "0"),
        ("study-deleted", {}, "110105", ["study-deleted"], "0"),
        ("results withdrawn", {}, "110103", ["results-withdrawn"], "0"),
        ("something new", {}, "110100", ["something-new"], "0"),
    ],
)
def test_each_action_is_an_event_of_dicom(
    store: Store, action: str, values: dict[str, Any], event: str, types: list[str], outcome: str
) -> None:
    with receiving("udp") as receiver:
        record(store, action, **values)
        forwarder(store, syslog=receiver.url).forward()
        (message,) = receiver.take(1)
    xml = xml_of(message)
    identification = xml.find("EventIdentification")
    assert identification is not None
    assert [one.get("csd-code") for one in identification] == [event, *types]
    assert identification.get("EventOutcomeIndicator") == outcome
    for code in xml.iter():
        if "csd-code" in code.attrib and code.tag != "AuditSourceTypeCode":
            assert code.get("codeSystemName") in ("DCM", "99DICOMNODE")
            assert code.get("originalText")
    has_address = values.get("detail") == {"address": "192.0.2.7"} or values.get("subject") in ("192.0.2.7", "::1")
    participant = xml.find("ActiveParticipant")
    assert participant is not None
    assert ("NetworkAccessPointID" in participant.attrib) is has_address


def test_messages_wait_for_a_receiver_that_is_away(store: Store, certificate: Path) -> None:
    with receiving("tls", certificate) as receiver:
        url = receiver.url
    for number in range(2):
        record(store, "exported", subject=f"1.2.{number}")
    sender = forwarder(store, syslog=url, syslog_ca_file=certificate)
    sender.forward()
    assert store.audit_chain.forwarded(url) == 0
    with receiving("tcp") as other:
        forwarder(store, syslog=other.url).forward()  # another receiver gets everything
        assert len(other.take(2)) == 2
        assert store.audit_chain.forwarded(url) == 0


def test_nothing_is_sent_to_a_receiver_whose_certificate_nobody_vouches_for(store: Store, certificate: Path) -> None:
    record(store, "exported")
    with receiving("tls", certificate) as receiver:
        forwarder(store, syslog=receiver.url).forward()
        assert store.audit_chain.forwarded(receiver.url) == 0
        forwarder(store, syslog=receiver.url.replace("127.0.0.1", "localhost"), syslog_ca_file=certificate).forward()
        assert receiver.messages.empty()  # the certificate is for another name
        forwarder(store, syslog=receiver.url, syslog_ca_file=certificate).forward()
        assert len(receiver.take(1)) == 1


@pytest.mark.parametrize(
    ("setting", "text"),
    [("syslog_ca_file", None), ("syslog_ca_file", "no PEM"), ("syslog_certificate", None), ("syslog_key", "no PEM")],
)
def test_a_file_for_tls_that_cannot_be_used_is_named(
    store: Store, certificate: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, setting: str, text: str | None
) -> None:
    record(store, "exported")
    path = tmp_path / "wrong.pem"
    if text is not None:
        path.write_text(text)
    files = {"syslog_ca_file": certificate, "syslog_certificate": certificate, setting: path}
    with receiving("tls", certificate) as receiver:
        forwarder(store, syslog=receiver.url, **files).forward()
        assert receiver.messages.empty()
    assert f"audit.{setting}: {path}: " in caplog.text
    assert "start the receiver" not in caplog.text


@pytest.mark.parametrize(
    "text", ["{syslog: 'http://x'}", "{syslog: x}", "{syslog: 'udp://x', syslog_ca_file: a}", "{syslog_key: a}"]
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(f"audit: {text}")
    with pytest.raises(SettingsError, match="syslog"):
        load_settings(path, {})

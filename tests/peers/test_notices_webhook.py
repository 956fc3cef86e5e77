"""Notices to a webhook, received by the program that docs/notices.md offers receivers to copy from."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from dicom_node.peers import StudyNotice, tell, webhook
from dicom_node.peers.errors import (
    HttpFailedForNowError,
    HttpRefusedError,
    PeerTimeoutError,
    SecretUnusableError,
    TokenMissingError,
)
from dicom_node.peers.webhook import encoded_body, event_id, signed_headers, webhook_secret
from dicom_node.settings import WebhookTarget
from tests.webhook_receiver import SECRET, WebhookReceiver, start_webhook_receiver

NOTICE = StudyNotice("1.2.3", 7, "cleared", "rules", {"defaced": 2}, "f" * 64, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookReceiver]:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with start_webhook_receiver(tmp_path) as started:
        yield started


def post(url: str, notice: StudyNotice = NOTICE) -> None:
    tell(WebhookTarget(name="hook", url=url, secret_env="HOOK_SECRET"), notice, node_ae_title="NODE")


def test_a_notice_is_taken_once_and_says_nothing_about_persons(receiver: WebhookReceiver) -> None:
    post(receiver.url)
    post(receiver.url)  # as after a crash between the answer and its record
    assert [news for news, _ in receiver.taken()] == ["new", "known"]
    (_, body), (_, again) = receiver.taken()
    assert body == again
    assert body == {
        "type": "study.state",
        "event_id": event_id(NOTICE),
        "node": "NODE",
        "study_instance_uid": "1.2.3",
        "version": 7,
        "state": "cleared",
        "decided_by": "rules",
        "series": {"defaced": 2},
        "evidence_fingerprint": "f" * 64,
        "since": "2026-01-01T00:00:00+00:00",
    }


def test_an_earlier_state_that_comes_late_changes_nothing_at_the_receiver(receiver: WebhookReceiver) -> None:
    post(receiver.url, replace(NOTICE, version=9, state="open"))
    post(receiver.url)
    assert receiver.new_states("1.2.3") == ["open"]
    assert json.loads(receiver.states.read_text())["1.2.3"]["state"] == "open"


def test_another_secret_is_refused_by_the_receiver(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", base64.b64encode(b"x" * 24).decode())
    with pytest.raises(HttpFailedForNowError, match="HTTP 401"):
        post(receiver.url)
    assert receiver.taken() == []


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp", "webhook-signature"])
def test_the_signature_covers_id_time_and_body(receiver: WebhookReceiver, changed: str) -> None:
    body = encoded_body(NOTICE, node_ae_title="NODE")
    secret = base64.b64decode(SECRET.removeprefix("whsec_"))
    now = int(time.time())
    headers = signed_headers(secret, event_id(NOTICE), now, body)
    if changed == "body":
        body = body.replace(b"cleared", b"blocked")
    else:
        other = {"webhook-id": "other", "webhook-timestamp": str(now + 1), "webhook-signature": "v1,AAAA"}
        headers[changed] = other[changed]
    assert httpx.post(receiver.url, content=body, headers=headers, trust_env=False).status_code == 401


def test_a_request_that_was_recorded_cannot_be_replayed_later(receiver: WebhookReceiver) -> None:
    body = encoded_body(NOTICE, node_ae_title="NODE")
    secret = base64.b64decode(SECRET.removeprefix("whsec_"))
    headers = signed_headers(secret, event_id(NOTICE), int(time.time()) - 301, body)
    assert httpx.post(receiver.url, content=body, headers=headers, trust_env=False).status_code == 401


def test_the_signature_is_that_of_the_example_of_the_standard() -> None:
    """Standard Webhooks 1.0, test vector of its reference libraries."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_has_one_id_whoever_tells_it() -> None:
    assert event_id(NOTICE) == event_id(replace(NOTICE, since=datetime(2027, 1, 1, tzinfo=UTC)))
    others = {event_id(replace(NOTICE, version=8)), event_id(replace(NOTICE, study_instance_uid="1.2.4"))}
    assert len(others | {event_id(NOTICE)}) == 3


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("not base64!", "does not hold base64"),
        (base64.b64encode(b"x" * 23).decode(), "holds base64 of 23 bytes"),
        (base64.b64encode(b"x" * 65).decode(), "holds base64 of 65 bytes"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_shown(
    value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", value)
    target = WebhookTarget(name="hook", url="http://127.0.0.1:9", secret_env="HOOK_SECRET")
    with pytest.raises(SecretUnusableError, match=f"HOOK_SECRET {said}; expected base64 of 24 to 64") as caught:
        webhook_secret(target)
    assert value not in str(caught.value)
    monkeypatch.delenv("HOOK_SECRET")
    with pytest.raises(TokenMissingError, match="HOOK_SECRET is not set"):
        webhook_secret(target)


@pytest.mark.parametrize(("status", "error"), [(302, HttpRefusedError), (308, HttpRefusedError),
                                               (500, HttpFailedForNowError), (404, HttpFailedForNowError)])  # fmt: skip
def test_redirects_are_not_followed_and_other_failures_end_nothing(
    status: int, error: type[Exception], receiver: WebhookReceiver
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Location", receiver.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        with pytest.raises(error, match=f"HTTP {status}"):
            post(f"http://127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert receiver.taken() == []


def test_a_receiver_that_says_nothing_is_left_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert webhook.ANSWER_S == 10.0
    monkeypatch.setattr(webhook, "ANSWER_S", 0.5)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(PeerTimeoutError):
            post(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert time.monotonic() - started < 5.0

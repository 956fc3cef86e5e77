"""Post the state of a study to a webhook, signed as "Standard Webhooks" 1.0 says (standardwebhooks.com).

The signature covers the event's ID, the time and the body. A notice that is sent again has the same ID and body, so
that the receiver can recognise it, and a new time and signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
import uuid

from dicom_node.peers.errors import HttpFailedForNowError, HttpRefusedError, SecretUnusableError
from dicom_node.peers.notice import StudyNotice
from dicom_node.peers.web_client import REFUSED, WebClient, environment_value, origin_of
from dicom_node.settings import WebhookTarget

ANSWER_S = 10.0  # for the whole request
SECRET_PREFIX = "whsec_"  # noqa: S105 - of the standard; it may be left out
SECRET_BYTES = (24, 64)
EVENT_NAMESPACE = uuid.UUID("5f0a6f0c-6f0b-5d0e-9a55-6a1d8f0d3c51")  # of the IDs of this module's events


def post_state(target: WebhookTarget, notice: StudyNotice, *, node_ae_title: str) -> None:
    """Post a notice; any answer from 200 to 299 means that the receiver has it.

    Raises
    ------
    DeliveryError
        There is no such answer within `ANSWER_S`, or the secret cannot be used.
    """
    secret = webhook_secret(target)
    body = encoded_body(notice, node_ae_title=node_ae_title)
    headers = signed_headers(secret, event_id(notice), int(time.time()), body)
    headers |= {"Content-Type": "application/json"}
    with (
        WebClient(target, timeout_s=ANSWER_S) as client,
        client.request("POST", "", content=body, headers=headers, deadline_s=ANSWER_S) as response,
    ):
        if not response.is_success:
            kind = HttpRefusedError if response.status_code in REFUSED else HttpFailedForNowError
            raise kind(target.name, response.status_code, origin_of(target.url))


def webhook_secret(target: WebhookTarget) -> bytes:
    """Return the secret of a target from the environment.

    Raises
    ------
    TokenMissingError, SecretUnusableError
        The variable is not set, or holds something else.
    """
    text = environment_value(target.name, target.secret_env).strip().removeprefix(SECRET_PREFIX)
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SecretUnusableError(target.name, target.secret_env, "does not hold base64") from error
    if not SECRET_BYTES[0] <= len(secret) <= SECRET_BYTES[1]:
        raise SecretUnusableError(target.name, target.secret_env, f"holds base64 of {len(secret)} bytes")
    return secret


def event_id(notice: StudyNotice) -> str:
    """Return the ID of a notice: the same for the same state of the same study, whatever sends it."""
    return str(uuid.uuid5(EVENT_NAMESPACE, f"{notice.study_instance_uid} {notice.version}"))


def encoded_body(notice: StudyNotice, *, node_ae_title: str) -> bytes:
    """Return the JSON body, always the same bytes for a notice."""
    body = {
        "type": "study.state",
        "event_id": event_id(notice),
        "node": node_ae_title,
        "study_instance_uid": notice.study_instance_uid,
        "version": notice.version,
        "state": notice.state,
        "decided_by": notice.decided_by,
        "series": dict(sorted(notice.standings.items())),
        "evidence_fingerprint": notice.evidence_fingerprint,
        "since": notice.since.isoformat(),
    }
    return json.dumps(body, separators=(",", ":")).encode()


def signed_headers(secret: bytes, identifier: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers with ID, time (seconds since 1970) and HMAC-SHA256 over both and the body."""
    signed = b"%s.%d.%s" % (identifier.encode(), timestamp, body)
    signature = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": identifier,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }

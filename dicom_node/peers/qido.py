"""One QIDO-RS request and its answer, of bounded size."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from http import HTTPStatus

import httpx

from dicom_node.peers.errors import PeerTimeoutError, QueryUnreadableError
from dicom_node.peers.web_client import error_of_status, url_of
from dicom_node.settings import DicomwebPeer

MAX_ANSWER_BYTES = 4 * 2**20
ANSWER_S = 60.0  # the client's own timeout counts from one byte to the next


def query(
    client: httpx.Client, peer: DicomwebPeer, path: str, parameters: Mapping[str, str]
) -> list[dict[str, object]]:
    """Matches as DICOM JSON objects.

    Raises
    ------
    DeliveryError
        The answer is no success, is no DICOM JSON, or is longer than `MAX_ANSWER_BYTES` or `ANSWER_S`.
    httpx.TransportError
        There is no answer.
    """
    headers = {"Accept": "application/dicom+json"}
    with client.stream("GET", url_of(peer, path), params=dict(parameters), headers=headers) as response:
        if response.status_code == HTTPStatus.NO_CONTENT:
            return []
        if response.status_code != HTTPStatus.OK:
            raise error_of_status(peer, response)
        body, began = bytearray(), time.monotonic()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise QueryUnreadableError(peer.name, f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() - began > ANSWER_S:
                raise PeerTimeoutError(peer.name, "end of its answer", ANSWER_S)
    try:
        matches = json.loads(body or b"[]")
    except ValueError as error:
        raise QueryUnreadableError(peer.name, "an answer that is no JSON") from error
    if not isinstance(matches, list) or not all(isinstance(match, dict) for match in matches):
        raise QueryUnreadableError(peer.name, "an answer that is no list of DICOM JSON objects")
    return matches

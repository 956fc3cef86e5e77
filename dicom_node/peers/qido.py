"""One QIDO-RS request and its answer, bounded in time and size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from dicom_node.peers.errors import QueryUnreadableError
from dicom_node.peers.web_client import WebClient, error_of_status, read_body
from dicom_node.settings import DicomwebPeer

MAX_ANSWER_BYTES = 4 * 2**20
ANSWER_S = 60.0  # for the whole answer


def query(client: WebClient, peer: DicomwebPeer, path: str, parameters: Mapping[str, str]) -> list[dict[str, object]]:
    """Send a query and return its matches as DICOM JSON objects.

    Raises
    ------
    DeliveryError
        There is no answer within `ANSWER_S`, or it is an error, not DICOM JSON, or longer than `MAX_ANSWER_BYTES`.
    """
    headers = {"Accept": "application/dicom+json"}
    with client.request("GET", path, params=dict(parameters), headers=headers, deadline_s=ANSWER_S) as response:
        if response.status_code == HTTPStatus.NO_CONTENT:
            return []
        if response.status_code != HTTPStatus.OK:
            raise error_of_status(peer, response)
        body = read_body(response, max_bytes=MAX_ANSWER_BYTES)
    if body is None:
        raise QueryUnreadableError(peer.name, f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    try:
        matches = json.loads(body or b"[]")
    except (ValueError, RecursionError) as error:
        raise QueryUnreadableError(peer.name, "an answer that is not JSON") from error
    if not isinstance(matches, list) or not all(isinstance(match, dict) for match in matches):
        raise QueryUnreadableError(peer.name, "an answer that is not a list of DICOM JSON objects")
    return matches

"""Send stored objects to a DICOMweb peer by STOW-RS, streamed and unchanged (PS3.18 10.5)."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO

from dicom_node.peers.errors import DeliveryError, UnconfirmedError
from dicom_node.peers.objects import ObjectToSend, SendOutcome
from dicom_node.peers.status import PROCESSING_FAILURE, outcome_of_status
from dicom_node.peers.web_client import WebClient, error_of_status, read_body
from dicom_node.settings import DicomwebPeer

MAX_OBJECTS_PER_REQUEST = 50
READ_BYTES = 256 * 1024
MAX_ANSWER_BYTES = 4 * 2**20
MIN_BYTES_PER_S = 4096  # a slower peer would delay all other deliveries to it
PART_HEADER = "--{boundary}\r\nContent-Type: application/dicom\r\n\r\n"
REFERENCED_SOP_SEQUENCE = "00081199"
FAILED_SOP_SEQUENCE = "00081198"
REFERENCED_SOP_INSTANCE_UID = "00081155"
WARNING_REASON = "00081196"
FAILURE_REASON = "00081197"
ALL_STORED, SOME_STORED, NONE_STORED = 200, 202, 409


def store_over_web(peer: DicomwebPeer, objects: Sequence[ObjectToSend], *, timeout_s: float) -> tuple[SendOutcome, ...]:
    """Send ``objects`` by STOW-RS, in as few requests as possible."""
    outcomes: list[SendOutcome] = []
    try:
        with WebClient(peer, timeout_s=timeout_s) as client:
            for start in range(0, len(objects), MAX_OBJECTS_PER_REQUEST):
                some = objects[start : start + MAX_OBJECTS_PER_REQUEST]
                outcomes += _store(client, peer, some, timeout_s=timeout_s)
    except DeliveryError as error:
        rest = objects[len(outcomes) :]
        return (*outcomes, *(SendOutcome(each.sop_instance_uid, error) for each in rest))
    return tuple(outcomes)


def read_outcomes(
    peer_name: str, objects: Sequence[ObjectToSend], http_status: int, body: bytes
) -> tuple[SendOutcome, ...]:
    """Return the outcome for each object according to the answer.

    Sequences may be present but empty: Orthanc sends an empty Failed SOP Sequence with every success. A 200 without a
    readable body means that all were stored; one with a failure that names no instance does not.
    """
    dataset = _dataset(body)
    failures = _items(dataset, FAILED_SOP_SEQUENCE)
    stored = _reasons(_items(dataset, REFERENCED_SOP_SEQUENCE), WARNING_REASON)
    failed = _reasons(failures, FAILURE_REASON)

    def outcome(uid: str) -> SendOutcome:
        if uid in failed:
            return outcome_of_status(peer_name, uid, failed[uid] or PROCESSING_FAILURE)
        if uid in stored:
            return outcome_of_status(peer_name, uid, stored[uid])
        if http_status == ALL_STORED and not stored and not failures:
            return SendOutcome(uid)
        return SendOutcome(uid, UnconfirmedError(peer_name, uid))

    return tuple(outcome(each.sop_instance_uid) for each in objects)


def _store(
    client: WebClient, peer: DicomwebPeer, objects: Sequence[ObjectToSend], *, timeout_s: float
) -> tuple[SendOutcome, ...]:
    """Send one request and return its outcomes.

    Raises
    ------
    DeliveryError
        There is no answer, or it says nothing about single objects.
    """
    boundary = uuid.uuid4().hex
    with ExitStack() as opened:
        streams = [opened.enter_context(each.open()) for each in objects]
        n_bytes = _body_bytes(streams, boundary)
        request = client.request(
            "POST",
            "studies",
            content=_parts(streams, boundary),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Content-Length": str(n_bytes),  # some servers reject chunked requests
                "Accept": "application/dicom+json",
            },
            deadline_s=2 * timeout_s + n_bytes / MIN_BYTES_PER_S,
        )
        with request as response:
            body = read_body(response, max_bytes=MAX_ANSWER_BYTES)
    if body is None:  # the answer is too long to read
        return tuple(
            SendOutcome(each.sop_instance_uid, UnconfirmedError(peer.name, each.sop_instance_uid)) for each in objects
        )
    names_instances = response.status_code == NONE_STORED and FAILED_SOP_SEQUENCE in _dataset(body)
    if response.status_code in (ALL_STORED, SOME_STORED) or names_instances:
        return read_outcomes(peer.name, objects, response.status_code, body)
    raise error_of_status(peer, response)


def _parts(streams: Sequence[BinaryIO], boundary: str) -> Iterator[bytes]:
    for stream in streams:
        yield PART_HEADER.format(boundary=boundary).encode()
        stream.seek(0)
        while piece := stream.read(READ_BYTES):
            yield piece
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _body_bytes(streams: Sequence[BinaryIO], boundary: str) -> int:
    around = len(PART_HEADER.format(boundary=boundary)) + len("\r\n")
    return sum(around + stream.seek(0, os.SEEK_END) for stream in streams) + len(f"--{boundary}--\r\n")


def _dataset(body: bytes) -> dict[str, Any]:
    """Return the DICOM JSON object of an answer, bare or alone in a list; empty if it is something else."""
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(decoded, list) and len(decoded) == 1:
        decoded = decoded[0]
    return decoded if isinstance(decoded, dict) else {}


def _items(dataset: dict[str, Any], sequence: str) -> list[Any]:
    """Return the items of a sequence; none if it is missing or no sequence."""
    member = dataset.get(sequence)
    items = member.get("Value") if isinstance(member, dict) else None
    return items if isinstance(items, list) else []


def _reasons(items: Sequence[Any], reason: str) -> dict[str, int]:
    """Return SOP Instance UID → reason for items, 0 where one has none; those that name no instance are left out."""
    found: dict[str, int] = {}
    for item in items:
        with suppress(AttributeError, KeyError, IndexError, TypeError, ValueError):
            numbers = item.get(reason, {}).get("Value") or (0,)
            found[str(item[REFERENCED_SOP_INSTANCE_UID]["Value"][0])] = int(numbers[0])
    return found

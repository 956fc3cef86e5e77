"""Ask a peer to commit to keeping instances, and take its report if it comes on the same association (PS3.4 annex J).

Peers report on the same association or on one of their own, before or after their answer, within milliseconds or
hours. So the association stays open for a while only, and the node listens for all other reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.peers.association import Proposal, associate
from dicom_node.peers.errors import CommitmentNotOfferedError
from dicom_node.peers.status import SUCCESS
from dicom_node.settings import DimsePeer
from dicom_node.upper_layer.command_set import CommandField, Request
from dicom_node.upper_layer.commitment import (
    COMMITMENT_INSTANCE,
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT,
    CommitmentReport,
    ReportStatus,
    SopInstance,
    answer_report,
    encode_commitment_request,
)

LOOK_S = 0.25  # between two looks at whether the report has come on another association


class RequestLog(Protocol):
    """What is recorded of one request."""

    def prepare(self) -> None:
        """Record the request, before it is sent."""

    def take(self, report: CommitmentReport) -> bool:
        """Record a report; return False if it belongs to no request to this peer."""

    def is_reported(self) -> bool:
        """Return whether a report on the request has arrived, on any association."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Status and comment of an N-ACTION that the peer did not accept."""

    status: int
    comment: str

    def __str__(self) -> str:
        said = f" ({self.comment})" if self.comment else ""
        return f"N-ACTION answered with status 0x{self.status:04X}{said}"


def request_commitment(
    peer: DimsePeer,
    transaction_uid: str,
    instances: Sequence[SopInstance],
    request_log: RequestLog,
    *,
    calling_ae_title: str,
    timeout_s: float,
    wait_s: float,
    must_stop: Callable[[], bool] = lambda: False,
) -> Refusal | None:
    """Ask a peer to commit to instances; return how it refuses, or None if it will report.

    Parameters
    ----------
    wait_s
        How long the association stays open for the report.

    Raises
    ------
    CommitmentNotOfferedError
        The peer does not accept the presentation context; nothing was sent.
    DeliveryError
        There is no association, or no answer.
    """
    proposal = Proposal(STORAGE_COMMITMENT, ImplicitVRLittleEndian)

    def answer(event: Request, data_set: bytes) -> tuple[int, str]:
        if event.command_field != CommandField.N_EVENT_REPORT_RQ or event.sop_class_uid != STORAGE_COMMITMENT:
            return ReportStatus.NO_SUCH_CLASS, "reports are taken on storage commitment only"
        return answer_report(
            data_set,
            event_type=event.type_id,
            transfer_syntax_uid=proposal.transfer_syntax_uid,
            take=request_log.take,
        )

    with associate(peer, [proposal], calling_ae_title=calling_ae_title, timeout_s=timeout_s) as association:
        context_id = association.contexts.get(proposal)
        if context_id is None:
            raise CommitmentNotOfferedError(peer.name)
        request_log.prepare()
        request = Request(
            CommandField.N_ACTION_RQ, 1, STORAGE_COMMITMENT, COMMITMENT_INSTANCE, True, REQUEST_COMMITMENT
        )
        information = BytesIO(encode_commitment_request(transaction_uid, instances))
        response = association.perform_with_events(context_id, request, information, answer)
        if response.status != SUCCESS:
            return Refusal(response.status, response.comment)
        end_at = time.monotonic() + wait_s
        while not request_log.is_reported() and not must_stop():
            left_s = end_at - time.monotonic()
            if left_s <= 0 or not association.await_event(answer, timeout_s=min(LOOK_S, left_s)):
                break
    return None

"""The request for an association, and what the peer makes of it (PS3.8 9.3.2 to 9.3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import build_context

from dicom_node.upper_layer.errors import AbortReason, ProtocolError
from dicom_node.upper_layer.pdu_stream import PDU_HEADER, Pdu
from dicom_node.upper_layer.user_information import APPLICATION_CONTEXT_NAME, user_information

MAX_CONTEXTS = 128  # odd IDs from 1 to 255 (PS3.8 9.3.2.2)
ACCEPTED = 0x00
# Source and reason of PS3.8 table 9-21.
REJECTION_REASONS = {
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


class Proposal(NamedTuple):
    """A presentation context with one transfer syntax: two in one would leave the choice to the peer."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the peer accepted."""

    contexts: Mapping[Proposal, int]  # presentation context IDs
    max_pdu_bytes: int  # 0 is no limit


def encode_request(
    proposals: Sequence[Proposal], *, calling_ae_title: str, called_ae_title: str, max_pdu_bytes: int
) -> bytes:
    """A-ASSOCIATE-RQ PDU; proposal ``n`` gets the presentation context ID 2n+1."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT_NAME
    primitive.calling_ae_title = calling_ae_title
    primitive.called_ae_title = called_ae_title
    for index, proposal in enumerate(proposals):
        context = build_context(proposal.sop_class_uid, proposal.transfer_syntax_uid)
        context.context_id = 2 * index + 1
        primitive.presentation_context_definition_list.append(context)
    primitive.user_information = user_information(max_pdu_bytes=max_pdu_bytes)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def decode_acceptance(pdu: Pdu, proposals: Sequence[Proposal]) -> Acceptance:
    """Read an A-ASSOCIATE-AC PDU.

    Raises
    ------
    ProtocolError
        It cannot be read.
    """
    try:
        decoded = A_ASSOCIATE_AC()
        decoded.decode(PDU_HEADER.pack(pdu.type, len(pdu.body)) + pdu.body)
        primitive = decoded.to_primitive()
        accepted = {
            context.context_id
            for context in primitive.presentation_context_definition_results_list
            if context.result == ACCEPTED
        }
        max_pdu_bytes = primitive.maximum_length_received or 0
    except Exception as error:  # pynetdicom raises what its parts raise: struct, value, key, type, assertion errors
        what = f"A-ASSOCIATE-AC PDU that cannot be read ({type(error).__name__})"
        raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what) from error
    contexts = {proposal: 2 * index + 1 for index, proposal in enumerate(proposals) if 2 * index + 1 in accepted}
    return Acceptance(contexts, max_pdu_bytes)


def rejection_in_words(body: memoryview) -> str:
    """Reason of an A-ASSOCIATE-RJ PDU."""
    source, reason = bytes(body[2:4]).ljust(2, b"\0")
    return REJECTION_REASONS.get((source, reason), f"source {source}, reason {reason}")

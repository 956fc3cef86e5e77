"""From an A-ASSOCIATE-RQ to its answer: who may come in, what for, how much at a time (PS3.8 9.3.2 to 9.3.4)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from dicom_node.dimse.contexts import (
    AcceptedContext,
    AnsweredContext,
    ProposedContext,
    accepted_contexts,
    negotiate_contexts,
)
from dicom_node.upper_layer.errors import AbortReason, ProtocolError
from dicom_node.upper_layer.items import Item, ItemType, decode_text, encode_item, split_items
from dicom_node.upper_layer.pdu_stream import PDU_HEADER, Pdu, PduType
from dicom_node.upper_layer.user_information import APPLICATION_CONTEXT_NAME, encode_user_information

PROTOCOL_VERSION = 0x01  # bit 0 (PS3.8 table 9-11)
ASSOCIATE_HEADER = struct.Struct(">H2x16s16s32x")  # protocol version, called and calling AE title
CONTEXT_HEADER = struct.Struct(">BxBx")  # presentation context ID, and in an answer the result


class _RejectionCode(NamedTuple):
    result: int  # 1 permanent, 2 transient
    source: int  # 1 service user, 2 service provider (ACSE), 3 service provider (presentation)
    reason: int


class Rejection(Enum):
    """Why an association is refused (PS3.8 table 9-21)."""

    APPLICATION_CONTEXT_NOT_SUPPORTED = _RejectionCode(1, 1, 2)
    CALLING_AE_TITLE_NOT_RECOGNIZED = _RejectionCode(1, 1, 3)
    CALLED_AE_TITLE_NOT_RECOGNIZED = _RejectionCode(1, 1, 7)
    PROTOCOL_VERSION_NOT_SUPPORTED = _RejectionCode(1, 2, 2)
    TEMPORARY_CONGESTION = _RejectionCode(2, 3, 1)
    LOCAL_LIMIT_EXCEEDED = _RejectionCode(2, 3, 2)


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What a requestor asks for."""

    calling_ae_title: str
    called_ae_title: str
    application_context_name: str
    protocol_version: int
    max_pdu_bytes: int  # of the requestor; 0 is no limit
    contexts: tuple[ProposedContext, ...]


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Who may associate; an empty allow-list lets everybody in."""

    ae_title: str
    require_called_ae_title: bool = True
    allowed_calling_ae_titles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Agreement:
    """An accepted association."""

    request: AssociationRequest
    contexts: Mapping[int, AcceptedContext]
    answer: bytes  # A-ASSOCIATE-AC PDU


def decode_request(pdu: Pdu) -> AssociationRequest:
    """Read an A-ASSOCIATE-RQ PDU.

    Raises
    ------
    ProtocolError
        It cannot be read.
    """
    if len(pdu.body) < ASSOCIATE_HEADER.size:
        raise _unreadable(f"{len(pdu.body)} bytes long")
    protocol_version, called, calling = ASSOCIATE_HEADER.unpack_from(pdu.body)
    items = list(split_items(pdu.body[ASSOCIATE_HEADER.size :]))
    return AssociationRequest(
        decode_text(memoryview(calling)),
        decode_text(memoryview(called)),
        "".join(item.text for item in items if item.type == ItemType.APPLICATION_CONTEXT),
        protocol_version,
        max(_maximum_lengths(items), default=0),
        tuple(_proposed_context(item) for item in items if item.type == ItemType.PROPOSED_CONTEXT),
    )


def find_rejection(request: AssociationRequest, policy: AdmissionPolicy) -> Rejection | None:
    """Why the requestor may not come in, ``None`` when it may."""
    if not request.protocol_version & PROTOCOL_VERSION:
        return Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context_name != APPLICATION_CONTEXT_NAME:
        return Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED
    if policy.require_called_ae_title and request.called_ae_title != policy.ae_title:
        return Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED
    if policy.allowed_calling_ae_titles and request.calling_ae_title not in policy.allowed_calling_ae_titles:
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    return None


def agree(request: AssociationRequest, *, max_pdu_bytes: int) -> Agreement:
    """Accept the association with those of its contexts that we know, and announce our longest PDU."""
    answers = negotiate_contexts(request.contexts)
    body = (
        ASSOCIATE_HEADER.pack(PROTOCOL_VERSION, _title(request.called_ae_title), _title(request.calling_ae_title))
        + encode_item(ItemType.APPLICATION_CONTEXT, APPLICATION_CONTEXT_NAME.encode("ascii"))
        + b"".join(map(_encode_answer, answers))
        + encode_user_information(max_pdu_bytes=max_pdu_bytes)
    )
    return Agreement(request, accepted_contexts(answers), PDU_HEADER.pack(PduType.ASSOCIATE_AC, len(body)) + body)


def encode_rejection(rejection: Rejection) -> bytes:
    """A-ASSOCIATE-RJ PDU."""
    return PDU_HEADER.pack(PduType.ASSOCIATE_RJ, 4) + bytes((0, *rejection.value))


def _proposed_context(item: Item) -> ProposedContext:
    if len(item.value) < CONTEXT_HEADER.size:
        raise _unreadable("presentation context without an ID")
    context_id = item.value[0]
    sub_items = list(split_items(item.value[CONTEXT_HEADER.size :]))
    abstract_syntaxes = [sub_item.text for sub_item in sub_items if sub_item.type == ItemType.ABSTRACT_SYNTAX]
    transfer_syntaxes = [sub_item.text for sub_item in sub_items if sub_item.type == ItemType.TRANSFER_SYNTAX]
    if not context_id % 2 or len(abstract_syntaxes) != 1 or not transfer_syntaxes:
        raise _unreadable(
            f"presentation context {context_id} with {len(abstract_syntaxes)} abstract and "
            f"{len(transfer_syntaxes)} transfer syntaxes"
        )
    return ProposedContext(context_id, abstract_syntaxes[0], tuple(transfer_syntaxes))


def _encode_answer(answer: AnsweredContext) -> bytes:
    head = CONTEXT_HEADER.pack(answer.proposed.context_id, answer.result)
    transfer_syntax = encode_item(ItemType.TRANSFER_SYNTAX, answer.transfer_syntax_uid.encode("ascii", "replace"))
    return encode_item(ItemType.ANSWERED_CONTEXT, head + transfer_syntax)


def _maximum_lengths(items: Iterable[Item]) -> Iterator[int]:
    for item in items:
        if item.type == ItemType.USER_INFORMATION:
            for sub_item in split_items(item.value):
                if sub_item.type == ItemType.MAXIMUM_LENGTH:
                    yield int.from_bytes(sub_item.value, "big")


def _title(ae_title: str) -> bytes:
    return ae_title.encode("ascii", "replace").ljust(16)


def _unreadable(what: str) -> ProtocolError:
    return ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, f"A-ASSOCIATE-RQ PDU that cannot be read: {what}")

"""Presentation contexts in proposals and answers (PS3.8 9.3.2.2 and 9.3.3.2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from dicom_node.upper_layer.errors import AbortReason, ProtocolError
from dicom_node.upper_layer.items import Item, ItemType, encode_item, split_items

_CONTEXT_HEADER = struct.Struct(">BxBx")  # presentation context ID, and in an answer the result


class ContextResult(IntEnum):
    """Result of a proposed presentation context (PS3.8 table 9-18)."""

    ACCEPTED = 0x00
    USER_REJECTION = 0x01
    NO_REASON = 0x02
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 0x03
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 0x04


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as the requestor proposes it."""

    context_id: int  # odd, 1 to 255
    abstract_syntax: str
    transfer_syntax_uids: tuple[str, ...]  # as the requestor lists them, at least one


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """The acceptor's answer to a proposed context."""

    context_id: int
    result: int  # a `ContextResult`, or a number that is not in the standard
    transfer_syntax_uid: str  # not significant in a rejection, but required


def encode_proposed_context(context: ProposedContext) -> bytes:
    """Encode a presentation context item of an A-ASSOCIATE-RQ PDU."""
    syntaxes = encode_item(ItemType.ABSTRACT_SYNTAX, context.abstract_syntax.encode("ascii", "replace"))
    for uid in context.transfer_syntax_uids:
        syntaxes += encode_item(ItemType.TRANSFER_SYNTAX, uid.encode("ascii", "replace"))
    return encode_item(ItemType.PROPOSED_CONTEXT, _CONTEXT_HEADER.pack(context.context_id, 0) + syntaxes)


def decode_proposed_context(item: Item) -> ProposedContext:
    """Read a presentation context item of an A-ASSOCIATE-RQ PDU.

    Raises
    ------
    ProtocolError
        The ID is even, or there is not exactly one abstract syntax and at least one transfer syntax.
    """
    context_id, _, sub_items = _split(item)
    abstract_syntaxes = [sub_item.text for sub_item in sub_items if sub_item.type == ItemType.ABSTRACT_SYNTAX]
    transfer_syntaxes = [sub_item.text for sub_item in sub_items if sub_item.type == ItemType.TRANSFER_SYNTAX]
    if not context_id % 2 or len(abstract_syntaxes) != 1 or not transfer_syntaxes:
        raise _invalid(
            f"presentation context {context_id} with {len(abstract_syntaxes)} abstract and "
            f"{len(transfer_syntaxes)} transfer syntaxes; an odd ID, one and at least one expected"
        )
    return ProposedContext(context_id, abstract_syntaxes[0], tuple(transfer_syntaxes))


def encode_answered_context(answer: AnsweredContext) -> bytes:
    """Encode a presentation context item of an A-ASSOCIATE-AC PDU."""
    transfer_syntax = encode_item(ItemType.TRANSFER_SYNTAX, answer.transfer_syntax_uid.encode("ascii", "replace"))
    head = _CONTEXT_HEADER.pack(answer.context_id, answer.result)
    return encode_item(ItemType.ANSWERED_CONTEXT, head + transfer_syntax)


def decode_answered_context(item: Item) -> AnsweredContext:
    """Read a presentation context item of an A-ASSOCIATE-AC PDU.

    Raises
    ------
    ProtocolError
        It is cut short, or accepts without naming one transfer syntax.
    """
    context_id, result, sub_items = _split(item)
    transfer_syntaxes = [sub_item.text for sub_item in sub_items if sub_item.type == ItemType.TRANSFER_SYNTAX]
    if result == ContextResult.ACCEPTED and len(transfer_syntaxes) != 1:
        raise _invalid(f"presentation context {context_id} accepted with {len(transfer_syntaxes)} transfer syntaxes")
    return AnsweredContext(context_id, result, transfer_syntaxes[0] if transfer_syntaxes else "")


def _split(item: Item) -> tuple[int, int, list[Item]]:
    if len(item.value) < _CONTEXT_HEADER.size:
        raise _invalid("presentation context without an ID")
    context_id, result = _CONTEXT_HEADER.unpack_from(item.value)
    return context_id, result, list(split_items(item.value[_CONTEXT_HEADER.size :]))


def _invalid(what: str) -> ProtocolError:
    return ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what)

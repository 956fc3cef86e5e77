"""Encode and decode the PDUs that open an association: request, acceptance, rejection.

PS3.8 9.3.2 to 9.3.4; user information PS3.8 annex D and PS3.7 D.3.3. Items that only other services need
(asynchronous operations, user identity) are neither sent nor read; by the standard their defaults then apply.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from dicom_node.upper_layer.errors import AbortReason, ProtocolError
from dicom_node.upper_layer.items import Item, ItemType, decode_text, encode_item, split_items
from dicom_node.upper_layer.pdu_stream import PDU_HEADER, Pdu, PduType
from dicom_node.upper_layer.presentation import (
    AnsweredContext,
    ProposedContext,
    decode_answered_context,
    decode_proposed_context,
    encode_answered_context,
    encode_proposed_context,
)
from part10.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"
PROTOCOL_VERSION = 0x01  # bit 0 (PS3.8 table 9-11)
MAX_CONTEXTS = 128  # odd IDs from 1 to 255 (PS3.8 9.3.2.2)
TRANSIENT = 2  # result of a rejection (PS3.8 table 9-21)
_FIXED_FIELDS = struct.Struct(">H2x16s16s32x")  # protocol version, called and calling AE title
_AE_TITLE_BYTES = 16
_UID_LENGTH_BYTES = 2
_ROLES_BYTES = 4  # length of the UID, SCU role, SCP role


class _RejectionCode(NamedTuple):
    result: int  # 1 permanent, 2 transient
    source: int  # 1 service user, 2 service provider (ACSE), 3 service provider (presentation)
    reason: int


class Rejection(Enum):
    """Reason for refusing an association (PS3.8 table 9-21)."""

    APPLICATION_CONTEXT_NOT_SUPPORTED = _RejectionCode(1, 1, 2)
    CALLING_AE_TITLE_NOT_RECOGNIZED = _RejectionCode(1, 1, 3)
    CALLED_AE_TITLE_NOT_RECOGNIZED = _RejectionCode(1, 1, 7)
    PROTOCOL_VERSION_NOT_SUPPORTED = _RejectionCode(1, 2, 2)
    TEMPORARY_CONGESTION = _RejectionCode(2, 3, 1)
    LOCAL_LIMIT_EXCEEDED = _RejectionCode(2, 3, 2)

    @property
    def in_words(self) -> str:
        """Return its name for messages and logs."""
        return self.name.replace("_", " ").lower().replace(" ae ", " AE ")


@dataclass(frozen=True, slots=True)
class Roles:
    """Roles that a requestor proposes for itself in a SOP class, or that an acceptor grants it (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    is_scu: bool
    is_scp: bool


@dataclass(frozen=True, slots=True)
class Extension:
    """What a side offers for a SOP class beyond its baseline, as its service defines the bytes (PS3.7 D.3.3.5)."""

    sop_class_uid: str
    information: bytes


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """Contents of an A-ASSOCIATE-RQ PDU."""

    calling_ae_title: str
    called_ae_title: str
    contexts: tuple[ProposedContext, ...]
    max_pdu_bytes: int  # longest PDU that the requestor accepts; 0 means no limit
    application_context_name: str = APPLICATION_CONTEXT_NAME
    protocol_version: int = PROTOCOL_VERSION
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME  # empty if the peer does not send it
    roles: tuple[Roles, ...] = ()  # for a SOP class that is not named, the requestor is the SCU only
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Contents of an A-ASSOCIATE-AC PDU."""

    calling_ae_title: str  # both titles are sent back unchanged and are not significant (PS3.8 table 9-17)
    called_ae_title: str
    contexts: tuple[AnsweredContext, ...]
    max_pdu_bytes: int  # longest PDU that the acceptor accepts; 0 means no limit
    roles: tuple[Roles, ...] = ()
    extensions: tuple[Extension, ...] = ()


class ReceivedRejection(NamedTuple):
    """Reason for which an acceptor refuses the association."""

    is_transient: bool
    reason: str


def encode_request(request: AssociationRequest) -> bytes:
    """A-ASSOCIATE-RQ PDU."""
    return _encode(
        PduType.ASSOCIATE_RQ,
        request,
        request.protocol_version,
        request.application_context_name,
        map(encode_proposed_context, request.contexts),
    )


def decode_request(pdu: Pdu) -> AssociationRequest:
    """Read an A-ASSOCIATE-RQ PDU.

    Raises
    ------
    ProtocolError
        It is cut short, or a presentation context in it is invalid or has the ID of another.
    """
    protocol_version, called, calling, items = _split(pdu)
    contexts = tuple(decode_proposed_context(item) for item in items if item.type == ItemType.PROPOSED_CONTEXT)
    if len({context.context_id for context in contexts}) < len(contexts):
        raise _unreadable(pdu, "two presentation contexts have the same ID")
    information = _user_information(items)
    return AssociationRequest(
        calling,
        called,
        contexts,
        _max_pdu_bytes(information),
        "".join(item.text for item in items if item.type == ItemType.APPLICATION_CONTEXT),
        protocol_version,
        "".join(item.text for item in information if item.type == ItemType.IMPLEMENTATION_VERSION_NAME),
        _roles(information),
        _extensions(information),
    )


def encode_acceptance(acceptance: Acceptance) -> bytes:
    """A-ASSOCIATE-AC PDU."""
    return _encode(
        PduType.ASSOCIATE_AC,
        acceptance,
        PROTOCOL_VERSION,
        APPLICATION_CONTEXT_NAME,
        map(encode_answered_context, acceptance.contexts),
    )


def decode_acceptance(pdu: Pdu) -> Acceptance:
    """Read an A-ASSOCIATE-AC PDU.

    Raises
    ------
    ProtocolError
        It is cut short, or a presentation context in it is invalid.
    """
    _, called, calling, items = _split(pdu)
    contexts = tuple(decode_answered_context(item) for item in items if item.type == ItemType.ANSWERED_CONTEXT)
    information = _user_information(items)
    roles = _roles(information)
    return Acceptance(calling, called, contexts, _max_pdu_bytes(information), roles, _extensions(information))


def encode_rejection(rejection: Rejection) -> bytes:
    """A-ASSOCIATE-RJ PDU."""
    return PDU_HEADER.pack(PduType.ASSOCIATE_RJ, 4) + bytes((0, *rejection.value))


def decode_rejection(pdu: Pdu) -> ReceivedRejection:
    """Read an A-ASSOCIATE-RJ PDU; a truncated one counts as a permanent rejection without a reason."""
    _, result, source, reason = bytes(pdu.body[:4]).ljust(4, b"\0")
    for rejection in Rejection:
        if (rejection.value.source, rejection.value.reason) == (source, reason):
            return ReceivedRejection(result == TRANSIENT, rejection.in_words)
    return ReceivedRejection(result == TRANSIENT, f"source {source}, reason {reason}")


def _encode(
    pdu_type: PduType,
    parties: AssociationRequest | Acceptance,
    protocol_version: int,
    application_context_name: str,
    contexts: Iterable[bytes],
) -> bytes:
    user_information = (
        encode_item(ItemType.MAXIMUM_LENGTH, parties.max_pdu_bytes.to_bytes(4, "big"))
        + encode_item(ItemType.IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_CLASS_UID.encode("ascii"))
        + b"".join(map(_encode_roles, parties.roles))
        + encode_item(ItemType.IMPLEMENTATION_VERSION_NAME, IMPLEMENTATION_VERSION_NAME.encode("ascii"))
        + b"".join(map(_encode_extension, parties.extensions))
    )
    titles = (_encode_ae_title(parties.called_ae_title), _encode_ae_title(parties.calling_ae_title))
    body = b"".join(
        (
            _FIXED_FIELDS.pack(protocol_version, *titles),
            encode_item(ItemType.APPLICATION_CONTEXT, application_context_name.encode("ascii")),
            *contexts,
            encode_item(ItemType.USER_INFORMATION, user_information),
        )
    )
    return PDU_HEADER.pack(pdu_type, len(body)) + body


def _split(pdu: Pdu) -> tuple[int, str, str, list[Item]]:
    """Return protocol version, called and calling AE title, and items."""
    if len(pdu.body) < _FIXED_FIELDS.size:
        raise _unreadable(pdu, f"{len(pdu.body)} bytes long, at least {_FIXED_FIELDS.size} expected")
    protocol_version, called, calling = _FIXED_FIELDS.unpack_from(pdu.body)
    items = list(split_items(pdu.body[_FIXED_FIELDS.size :]))
    return protocol_version, decode_text(called), decode_text(calling), items


def _user_information(items: Iterable[Item]) -> list[Item]:
    """Return all sub-items of user information, even if there are several such items."""
    return [
        sub_item for item in items if item.type == ItemType.USER_INFORMATION for sub_item in split_items(item.value)
    ]


def _max_pdu_bytes(user_information: Iterable[Item]) -> int:
    lengths = (int.from_bytes(item.value, "big") for item in user_information if item.type == ItemType.MAXIMUM_LENGTH)
    return max(lengths, default=0)


def _encode_roles(roles: Roles) -> bytes:
    uid = roles.sop_class_uid.encode("ascii", "replace")
    return encode_item(ItemType.ROLE_SELECTION, len(uid).to_bytes(2, "big") + uid + bytes((roles.is_scu, roles.is_scp)))


def _roles(user_information: Iterable[Item]) -> tuple[Roles, ...]:
    """Return the roles; items that cannot be read are left out, so that the default roles apply."""
    values = (item.value for item in user_information if item.type == ItemType.ROLE_SELECTION)
    return tuple(
        Roles(decode_text(value[2:-2]), bool(value[-2]), bool(value[-1]))
        for value in values
        if len(value) == int.from_bytes(value[:2], "big") + _ROLES_BYTES
    )


def _encode_extension(extension: Extension) -> bytes:
    uid = extension.sop_class_uid.encode("ascii", "replace")
    return encode_item(ItemType.EXTENDED_NEGOTIATION, len(uid).to_bytes(2, "big") + uid + extension.information)


def _extensions(user_information: Iterable[Item]) -> tuple[Extension, ...]:
    """Return the extensions; items that cannot be read are left out, so that the baseline applies."""
    values = (item.value for item in user_information if item.type == ItemType.EXTENDED_NEGOTIATION)
    lengths = ((value, _UID_LENGTH_BYTES + int.from_bytes(value[:_UID_LENGTH_BYTES], "big")) for value in values)
    return tuple(
        Extension(decode_text(value[_UID_LENGTH_BYTES:end]), bytes(value[end:]))
        for value, end in lengths
        if len(value) > end
    )


def _encode_ae_title(ae_title: str) -> bytes:
    return ae_title.encode("ascii", "replace")[:_AE_TITLE_BYTES].ljust(_AE_TITLE_BYTES)


def _unreadable(pdu: Pdu, what: str) -> ProtocolError:
    return ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, f"{pdu.type.name} PDU that cannot be read: {what}")

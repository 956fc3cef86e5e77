"""From an A-ASSOCIATE-RQ to its answer: who may come in, what for, how much at a time (PS3.8 9.3.2 to 9.3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from dicom_node.dimse.contexts import AcceptedContext, accepted_contexts, negotiate_contexts
from dicom_node.upper_layer.errors import AbortReason, ProtocolError
from dicom_node.upper_layer.pdu_stream import PDU_HEADER, Pdu
from dicom_node.upper_layer.user_information import APPLICATION_CONTEXT_NAME, user_information

PROTOCOL_VERSION = 0x01  # bit 0 (PS3.8 table 9-11)


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
    contexts: tuple[PresentationContext, ...]


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
    try:
        decoded = A_ASSOCIATE_RQ()
        decoded.decode(PDU_HEADER.pack(pdu.type, len(pdu.body)) + pdu.body)
        primitive = decoded.to_primitive()
        return AssociationRequest(
            primitive.calling_ae_title or "",
            primitive.called_ae_title or "",
            str(primitive.application_context_name or ""),
            decoded.protocol_version,
            primitive.maximum_length_received or 0,
            tuple(primitive.presentation_context_definition_list),
        )
    except Exception as error:  # pynetdicom raises what its parts raise: struct, value, key, type, assertion errors
        what = f"A-ASSOCIATE-RQ PDU that cannot be read ({type(error).__name__})"
        raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what) from error


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
    results = negotiate_contexts(request.contexts)
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT_NAME
    primitive.calling_ae_title = request.calling_ae_title
    primitive.called_ae_title = request.called_ae_title
    primitive.result = 0x00
    primitive.result_source = 0x01
    primitive.presentation_context_definition_results_list = list(results)
    primitive.user_information = user_information(max_pdu_bytes=max_pdu_bytes)
    accepted = A_ASSOCIATE_AC()
    accepted.from_primitive(primitive)
    return Agreement(request, accepted_contexts(results), accepted.encode())


def encode_rejection(rejection: Rejection) -> bytes:
    """A-ASSOCIATE-RJ PDU."""
    pdu = A_ASSOCIATE_RJ()
    pdu.result, pdu.source, pdu.reason_diagnostic = rejection.value
    return pdu.encode()

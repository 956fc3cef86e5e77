"""Decide who may associate with the node (PS3.8 9.3.4, table 9-21)."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.upper_layer.associate import (
    APPLICATION_CONTEXT_NAME,
    PROTOCOL_VERSION,
    AssociationRequest,
    Rejection,
)


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Requirements on a request; an empty list of calling AE titles allows all."""

    ae_title: str
    require_called_ae_title: bool = True
    allowed_calling_ae_titles: frozenset[str] = frozenset()


def find_rejection(request: AssociationRequest, policy: AdmissionPolicy) -> Rejection | None:
    """Return why the requestor may not associate, or None if it may."""
    if not request.protocol_version & PROTOCOL_VERSION:
        return Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context_name != APPLICATION_CONTEXT_NAME:
        return Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED
    if policy.require_called_ae_title and request.called_ae_title != policy.ae_title:
        return Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED
    if policy.allowed_calling_ae_titles and request.calling_ae_title not in policy.allowed_calling_ae_titles:
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    return None

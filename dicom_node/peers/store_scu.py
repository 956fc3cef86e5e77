"""Send stored objects to a DIMSE peer by C-STORE, unchanged in their transfer syntaxes (PS3.4 annex B)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO

from dicom_node.peers.association import Proposal, RequestedAssociation, associate
from dicom_node.peers.errors import ContextRefusedError, DeliveryError, NotPart10Error
from dicom_node.peers.objects import ObjectToSend, SendOutcome
from dicom_node.peers.status import outcome_of_status
from dicom_node.settings import DimsePeer
from dicom_node.upper_layer.associate import MAX_CONTEXTS
from dicom_node.upper_layer.command_set import CommandField, Request
from part10.errors import Part10Error
from part10.file_meta import START_BYTES, dataset_offset

MAX_MESSAGE_ID = 65535


def store_over_dimse(
    peer: DimsePeer, objects: Sequence[ObjectToSend], *, calling_ae_title: str, timeout_s: float
) -> tuple[SendOutcome, ...]:
    """Send ``objects`` by C-STORE, over as many associations as their presentation contexts require."""
    outcomes: dict[int, SendOutcome] = {}
    for proposals in _proposals(objects):
        group = [index for index, each in enumerate(objects) if _proposal(each) in proposals]
        try:
            with associate(peer, proposals, calling_ae_title=calling_ae_title, timeout_s=timeout_s) as association:
                for index in group:
                    outcomes[index] = _send(peer, association, objects[index], 1 + index % MAX_MESSAGE_ID)
        except DeliveryError as error:
            missing = (index for index in group if index not in outcomes)
            outcomes |= {index: SendOutcome(objects[index].sop_instance_uid, error) for index in missing}
    return tuple(outcomes[index] for index in range(len(objects)))


def _send(peer: DimsePeer, association: RequestedAssociation, to_send: ObjectToSend, message_id: int) -> SendOutcome:
    context_id = association.contexts.get(_proposal(to_send))
    if context_id is None:
        error = ContextRefusedError(peer.name, to_send.sop_class_uid, to_send.transfer_syntax_uid)
        return SendOutcome(to_send.sop_instance_uid, error)
    request = Request(
        CommandField.C_STORE_RQ,
        message_id,
        to_send.sop_class_uid,
        to_send.sop_instance_uid,
        has_data_set=True,
        moved_for=to_send.moved_for,
    )
    with to_send.open() as part10:
        if not _seek_data_set(part10):
            return SendOutcome(to_send.sop_instance_uid, NotPart10Error(peer.name, to_send.sop_instance_uid))
        response = association.perform(context_id, request, part10)
    return outcome_of_status(peer.name, to_send.sop_instance_uid, response.status, response.comment)


def _seek_data_set(part10: BinaryIO) -> bool:
    """Move to the data set after the file meta information; return False if there is no such information."""
    try:
        data_set_start = dataset_offset(part10.read(START_BYTES))
    except Part10Error:
        return False
    n_bytes = part10.seek(0, os.SEEK_END)
    part10.seek(data_set_start)
    return data_set_start < n_bytes


def _proposal(to_send: ObjectToSend) -> Proposal:
    return Proposal(to_send.sop_class_uid, to_send.transfer_syntax_uid)


def _proposals(objects: Sequence[ObjectToSend]) -> Iterator[list[Proposal]]:
    """Yield the proposals that the objects need, in groups that fit into one association each."""
    needed = iter(dict.fromkeys(_proposal(each) for each in objects))
    while chosen := list(islice(needed, MAX_CONTEXTS)):
        yield chosen

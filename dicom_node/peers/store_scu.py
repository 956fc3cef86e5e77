"""C-STORE to a DIMSE peer: stored objects as they are, each in its own transfer syntax (PS3.4 annex B)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice

from pydicom.dataset import Dataset
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.peers.association import MAX_CONTEXTS, associate
from dicom_node.peers.errors import (
    AssociationAbortedError,
    ContextRefusedError,
    DeliveryError,
    PeerTimeoutError,
)
from dicom_node.peers.objects import ObjectToSend, SendOutcome
from dicom_node.peers.status import outcome_of_status
from dicom_node.settings import DimsePeer

# The dataset goes from the file to the peer as it is; pynetdicom would decode and encode it again otherwise.
_config.STORE_SEND_CHUNKED_DATASET = True

MAX_MESSAGE_ID = 65535


def store_over_dimse(
    peer: DimsePeer, objects: Sequence[ObjectToSend], *, calling_ae_title: str, timeout_s: float
) -> tuple[SendOutcome, ...]:
    """Send ``objects`` by C-STORE, over as many associations as their presentation contexts need."""
    outcomes: dict[int, SendOutcome] = {}
    for group in _groups(objects):
        try:
            with associate(
                peer, _contexts(objects, group), calling_ae_title=calling_ae_title, timeout_s=timeout_s
            ) as association:
                for index in group:
                    outcomes[index] = _send(peer, association, objects[index], index, timeout_s)
        except DeliveryError as error:
            missing = (index for index in group if index not in outcomes)
            outcomes |= {index: SendOutcome(objects[index].sop_instance_uid, error) for index in missing}
    return tuple(outcomes[index] for index in range(len(objects)))


def _send(
    peer: DimsePeer, association: Association, to_send: ObjectToSend, index: int, timeout_s: float
) -> SendOutcome:
    """Send one object.

    Raises
    ------
    DeliveryError
        The association is over, so that nothing more can be sent on it.
    """
    if not association.is_established:
        raise AssociationAbortedError(peer.name)
    with to_send.open() as stored, tempfile.NamedTemporaryFile(suffix=".dcm") as copy:
        shutil.copyfileobj(stored, copy)
        copy.flush()
        try:
            answer: Dataset = association.send_c_store(copy.name, msg_id=1 + index % MAX_MESSAGE_ID)
        except ValueError:  # no accepted presentation context
            error = ContextRefusedError(peer.name, to_send.sop_class_uid, to_send.transfer_syntax_uid)
            return SendOutcome(to_send.sop_instance_uid, error)
    if "Status" not in answer:
        if association.is_aborted or not association.is_established:
            raise AssociationAbortedError(peer.name)
        raise PeerTimeoutError(peer.name, "C-STORE response", timeout_s)
    return outcome_of_status(peer.name, to_send.sop_instance_uid, answer.Status, answer.get("ErrorComment", ""))


def _groups(objects: Sequence[ObjectToSend]) -> Iterator[list[int]]:
    """Indexes of objects that fit into one association each, in order as far as their contexts allow."""
    pairs = iter(dict.fromkeys((each.sop_class_uid, each.transfer_syntax_uid) for each in objects))
    while chosen := set(islice(pairs, MAX_CONTEXTS)):
        yield [index for index, each in enumerate(objects) if (each.sop_class_uid, each.transfer_syntax_uid) in chosen]


def _contexts(objects: Sequence[ObjectToSend], group: Sequence[int]) -> list[PresentationContext]:
    """One context for each SOP class and transfer syntax: two syntaxes in one would leave the choice to the peer."""
    pairs = dict.fromkeys((objects[index].sop_class_uid, objects[index].transfer_syntax_uid) for index in group)
    return [build_context(sop_class_uid, transfer_syntax_uid) for sop_class_uid, transfer_syntax_uid in pairs]

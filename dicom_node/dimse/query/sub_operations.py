"""Send an instance by C-STORE on the association that asks for it, as it is stored or decompressed (PS3.4 C.4.3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final

from pydicom import dcmread, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.exchange import Exchange
from dicom_node.dimse.query.errors import TooLargeToConvertError
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.peers import SendOutcome
from dicom_node.peers.errors import ContextRefusedError
from dicom_node.peers.status import outcome_of_status
from dicom_node.store import InstanceRow, Store
from dicom_node.upper_layer.command_set import CommandField, Request
from part10.file_meta import START_BYTES, dataset_offset
from part10.inflate import bounded_for_pydicom

MAX_IMPLICIT_BYTES: Final = 2**28  # written anew in memory


class SubOperations:
    """Sends instances on one association.

    Parameters
    ----------
    contexts
        Accepted presentation contexts in which the requestor is the SCP.
    """

    def __init__(
        self, store: Store, policy: QueryRetrieve, exchange: Exchange, contexts: Sequence[AcceptedContext]
    ) -> None:
        self._store = store
        self._policy = policy
        self._exchange = exchange
        self._contexts = {(each.abstract_syntax, each.transfer_syntax_uid): each for each in reversed(contexts)}

    def send(self, request: Request, row: InstanceRow, peer: str) -> SendOutcome:
        """Send an instance for a C-GET; what keeps it from being sent is in the outcome.

        Raises
        ------
        AssociationError
            The association is over.
        """
        context = self._choose(row)
        if context is None:
            error = ContextRefusedError(peer, row.sop_class_uid, row.transfer_syntax_uid)
            return SendOutcome(row.sop_instance_uid, error)
        self._store.objects.check(row.digest)
        with self._data_set(row, context.transfer_syntax_uid) as data_set:
            message_id = self._exchange.next_message_id(request)
            store_request = Request(
                CommandField.C_STORE_RQ, message_id, row.sop_class_uid, row.sop_instance_uid, has_data_set=True
            )
            response = self._exchange.store(context.context_id, store_request, data_set)
        return outcome_of_status(peer, row.sop_instance_uid, response.status, response.comment)

    def _choose(self, row: InstanceRow) -> AcceptedContext | None:
        """Return the context for an instance: in its own transfer syntax, or in a plain one."""
        syntaxes = [row.transfer_syntax_uid]
        if self._policy.decompress is not None:
            syntaxes += [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        found = (self._contexts.get((row.sop_class_uid, syntax)) for syntax in syntaxes)
        return next((context for context in found if context is not None), None)

    @contextmanager
    def _data_set(self, row: InstanceRow, transfer_syntax_uid: str) -> Iterator[BinaryIO]:
        """Open an instance at the beginning of its data set; a converted one is written to a file before it is sent."""
        objects = self._store.objects
        if row.transfer_syntax_uid == transfer_syntax_uid or self._policy.decompress is None:
            with objects.open(row.digest, dataset_bytes=row.dataset_bytes) as file:
                _seek_data_set(file)
                yield file
            return
        with objects.scratch() as file:
            n_bytes = 0
            for chunk in self._policy.decompress(objects, row):
                n_bytes += file.write(chunk)
            if transfer_syntax_uid == ImplicitVRLittleEndian:
                _write_implicit(file, n_bytes, row.sop_instance_uid)
            _seek_data_set(file)
            yield file


def _seek_data_set(file: BinaryIO) -> None:
    file.seek(0)
    file.seek(dataset_offset(file.read(START_BYTES)))


def _write_implicit(file: BinaryIO, n_bytes: int, sop_instance_uid: str) -> None:
    """Write a file in Explicit VR Little Endian anew in Implicit VR."""
    if n_bytes > MAX_IMPLICIT_BYTES:
        raise TooLargeToConvertError(sop_instance_uid, n_bytes, MAX_IMPLICIT_BYTES)
    file.seek(0)
    ds = dcmread(bounded_for_pydicom(file, max_inflated_bytes=0))  # it is in Explicit VR Little Endian
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file.seek(0)
    file.truncate()
    dcmwrite(file, ds, implicit_vr=True, little_endian=True)

"""Instances of one request on their way into the inbox, several at a time, so that they share syncs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from dicom_node.errors import NodeError
from dicom_node.http_intake.errors import NotAnInstanceError, ObjectTooLargeError
from dicom_node.http_intake.outcomes import Outcome
from dicom_node.http_intake.reasons import NotStorableError, Reason, reason_of
from dicom_node.store import Arrival, Kept, Spool, Store, StoreError
from dicom_node.upper_layer.sop_classes import is_storable, is_uid

log = logging.getLogger(__name__)

MAX_IN_FLIGHT: Final = 8  # of one request
SPACE_CHECK_BYTES: Final = 16 * 2**20  # received between two checks of the free space
_CONFLICT: Final = "UID has other content here; first one stays, this is set aside"
_WORDS: Final = {
    Reason.SOP_CLASS_NOT_SUPPORTED: "not a storage SOP class",
    Reason.OUT_OF_RESOURCES: "no space or busy; send again later",
    Reason.DATA_SET_DOES_NOT_MATCH: "SOP class, UID or study is not the one announced",
    Reason.CANNOT_UNDERSTAND: "header unreadable, or a UID missing",
    Reason.TOO_LARGE: "larger than dimse.max_object_bytes",
    Reason.PROCESSING_FAILURE: "internal error, see the node's log",
}


@dataclass(frozen=True, slots=True)
class Announced:
    """What the file meta information says of an instance."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class Intake:
    """Takes the instances of one request.

    Parameters
    ----------
    study_instance_uid
        The study of the URL, which all instances must belong to; None for any.
    sender
        Stands in place of a calling AE title.
    max_object_bytes
        Largest dataset.
    accept_unknown
        Whether private and future SOP classes are taken.
    executor
        Its threads make instances durable.
    """

    def __init__(
        self,
        store: Store,
        *,
        sender: str,
        association_id: str,
        study_instance_uid: str | None,
        max_object_bytes: int,
        accept_unknown: bool,
        executor: Executor,
        clock: Callable[[], datetime],
    ) -> None:
        self.store = store
        self.max_object_bytes = max_object_bytes
        self._sender = sender
        self._association_id = association_id
        self._study_instance_uid = study_instance_uid
        self._accept_unknown = accept_unknown
        self._executor = executor
        self._clock = clock
        self._in_flight: dict[str, Future[Outcome]] = {}
        self._outcomes: list[Outcome] = []

    def begin(self, announced: Announced) -> Spool:
        """Return the spool for an instance; raise the store's errors, or `NotStorableError`."""
        if not is_uid(announced.sop_instance_uid) or not is_uid(announced.transfer_syntax_uid):
            raise NotAnInstanceError("a UID in the file meta information is missing or invalid")
        if not is_storable(announced.sop_class_uid, accept_unknown=self._accept_unknown):
            raise NotStorableError
        self.store.inbox.check_space()
        return self.store.objects.spool(
            sop_class_uid=announced.sop_class_uid,
            sop_instance_uid=announced.sop_instance_uid,
            transfer_syntax_uid=announced.transfer_syntax_uid,
        )

    def check(self, dataset_bytes: int, n_more: int) -> None:
        """Raise if an instance with ``dataset_bytes`` received so far must not grow by ``n_more`` bytes."""
        if dataset_bytes + n_more > self.max_object_bytes:
            raise ObjectTooLargeError(self.max_object_bytes)
        if (dataset_bytes + n_more) // SPACE_CHECK_BYTES > dataset_bytes // SPACE_CHECK_BYTES:
            self.store.inbox.check_space()

    def keep(self, part_number: int, spool: Spool, announced: Announced) -> None:
        """Hand a complete instance to the inbox; its outcome is among those of `outcomes`.

        Two instances with one UID go in one after the other, so that the first in the body stays the first.
        """
        while len(self._in_flight) >= MAX_IN_FLIGHT or announced.sop_instance_uid in self._in_flight:
            uid = announced.sop_instance_uid if announced.sop_instance_uid in self._in_flight else None
            self._settle(uid or next(iter(self._in_flight)))
        arrival = Arrival(
            sop_class_uid=announced.sop_class_uid,
            sop_instance_uid=announced.sop_instance_uid,
            transfer_syntax_uid=announced.transfer_syntax_uid,
            calling_ae_title=self._sender,
            association_id=self._association_id,
            received_at=self._clock(),
            study_instance_uid=self._study_instance_uid,
        )
        self._in_flight[announced.sop_instance_uid] = self._executor.submit(self._keep, part_number, spool, arrival)

    def refuse(self, part_number: int, error: Exception, announced: Announced | None, name: str = "") -> None:
        """Note that a part is not stored, and log why."""
        self._outcomes.append(self._failure(part_number, error, announced, name))

    def outcomes(self) -> list[Outcome]:
        """Wait for all instances and return what became of them."""
        while self._in_flight:
            self._settle(next(iter(self._in_flight)))
        return self._outcomes

    def _settle(self, sop_instance_uid: str) -> None:
        self._outcomes.append(self._in_flight.pop(sop_instance_uid).result())

    def _keep(self, part_number: int, spool: Spool, arrival: Arrival) -> Outcome:
        try:
            kept = self.store.inbox.keep(spool, replace(arrival, received_at=self._clock()))
        except Exception as error:  # noqa: BLE001 - every instance gets an outcome, whatever the error
            announced = Announced(arrival.sop_class_uid, arrival.sop_instance_uid, arrival.transfer_syntax_uid)
            return self._failure(part_number, error, announced)
        is_conflict = kept is Kept.CONFLICT
        if is_conflict:
            log.warning(
                "instance set aside: another one with the same UID is stored",
                extra={"sop_instance_uid": arrival.sop_instance_uid, "association_id": arrival.association_id},
            )
        return Outcome(
            part_number,
            Reason.COERCION if is_conflict else Reason.STORED,
            _CONFLICT if is_conflict else "",
            sop_class_uid=arrival.sop_class_uid,
            sop_instance_uid=arrival.sop_instance_uid,
            uids=self._uids_of(arrival.sop_instance_uid),
            was_here=kept is Kept.DUPLICATE,
        )

    def _uids_of(self, sop_instance_uid: str) -> Mapping[str, str]:
        """Return the UIDs of the path of a stored instance; none if the index does not answer any more."""
        try:
            rows = self.store.search.find_instances(sop_instance_uid=sop_instance_uid)
        except StoreError as error:  # it is stored all the same
            log.warning("the answer lacks the address of an instance: %s", error)
            return {}
        if not rows:
            return {}
        return {
            "StudyInstanceUID": rows[0].study_instance_uid,
            "SeriesInstanceUID": rows[0].series_instance_uid,
            "SOPInstanceUID": rows[0].sop_instance_uid,
        }

    def _failure(self, part_number: int, error: Exception, announced: Announced | None, name: str = "") -> Outcome:
        reason = reason_of(error)
        log.error(
            "instance not kept: %s",
            error if isinstance(error, NodeError) else type(error).__name__,
            extra={
                "sop_instance_uid": "" if announced is None else announced.sop_instance_uid[:64],
                "association_id": self._association_id,
                "part": part_number,
                "reason": f"0x{reason:04X}",
            },
            exc_info=error if reason is Reason.PROCESSING_FAILURE else None,
        )
        words = str(error.args[0]) if isinstance(error, NotAnInstanceError) else _WORDS[reason]
        is_named = announced is not None and is_uid(announced.sop_instance_uid)
        return Outcome(
            part_number,
            reason,
            words,
            name,
            announced.sop_class_uid if announced is not None and is_named else "",
            announced.sop_instance_uid if announced is not None and is_named else "",
        )

"""An archive that commits to storage as told, by pynetdicom: another implementation of both roles.

``start_commitment_scp`` is a context manager; a `Behaviour` says what it does with a request::

    with start_commitment_scp(Behaviour.AFTER) as archive:
        archive.port
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from tests.peer_servers import free_port

AE_TITLE = "ARCHIVE"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
NO_SUCH_INSTANCE = 0x0112


class Behaviour(Enum):
    """When and what the archive reports."""

    AFTER = "on the same association, after its answer"
    BEFORE = "on the same association, before its answer"
    SILENT = "never"
    REFUSE = "it refuses the request"
    ABORT = "it aborts the association in place of an answer"


@dataclass
class Archive:
    """A running archive, what it was asked, and what it does."""

    port: int
    behaviour: Behaviour
    requests: list[Dataset] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)  # statuses of the responses to its reports
    report: Callable[[Dataset], Dataset] | None = None  # makes the event information of a request; default: all good

    @property
    def transaction_uids(self) -> list[str]:
        return [str(request.TransactionUID) for request in self.requests]


def report_of(
    request: Dataset, *, failed: Sequence[str] = (), left_out: Sequence[str] = (), reason: int = NO_SUCH_INSTANCE
) -> Dataset:
    """Event information of a report (PS3.4 table J.3-2): ``failed`` and ``left_out`` are SOP Instance UIDs."""
    report = Dataset()
    report.TransactionUID = request.TransactionUID
    report.ReferencedSOPSequence, report.FailedSOPSequence = [], []
    for item in request.ReferencedSOPSequence:
        if item.ReferencedSOPInstanceUID in left_out:
            continue
        copy = Dataset()
        copy.ReferencedSOPClassUID = item.ReferencedSOPClassUID
        copy.ReferencedSOPInstanceUID = item.ReferencedSOPInstanceUID
        if item.ReferencedSOPInstanceUID in failed:
            copy.FailureReason = reason
            report.FailedSOPSequence.append(copy)
        else:
            report.ReferencedSOPSequence.append(copy)
    for keyword in ("ReferencedSOPSequence", "FailedSOPSequence"):
        if not report[keyword].value:
            del report[keyword]
    return report


def event_type(report: Dataset) -> int:
    return 2 if "FailedSOPSequence" in report else 1


@contextmanager
def start_commitment_scp(behaviour: Behaviour, *, offers: bool = True, port: int = 0) -> Iterator[Archive]:
    """An archive on loopback; with ``offers`` off it knows C-ECHO only."""
    archive = Archive(port or free_port(), behaviour)
    reporting: list[threading.Thread] = []

    def send_report(association: Any, request: Dataset) -> None:
        information = report_of(request) if archive.report is None else archive.report(request)
        status, _ = association.send_n_event_report(
            information, event_type(information), StorageCommitmentPushModel, COMMITMENT_INSTANCE
        )
        archive.answers.append(int(status.get("Status", -1)))

    def on_action(event: Any) -> tuple[int, Dataset | None]:
        request = event.action_information
        archive.requests.append(request)
        if archive.behaviour is Behaviour.ABORT:
            event.assoc.abort()
        if archive.behaviour is Behaviour.REFUSE:
            return 0x0110, None
        if archive.behaviour is Behaviour.BEFORE:
            send_report(event.assoc, request)
        if archive.behaviour is Behaviour.AFTER:
            thread = threading.Timer(0.2, send_report, (event.assoc, request))  # once the answer is sent
            reporting.append(thread)
            thread.start()
        return 0x0000, None

    ae = AE(ae_title=AE_TITLE)
    ae.add_supported_context("1.2.840.10008.1.1")
    if offers:
        ae.add_supported_context(StorageCommitmentPushModel)
    server = ae.start_server(("127.0.0.1", archive.port), block=False, evt_handlers=[(evt.EVT_N_ACTION, on_action)])
    try:
        yield archive
    finally:
        for thread in reporting:
            thread.join(60.0)
        server.shutdown()


def report_on_own_association(
    port: int,
    information: Dataset,
    *,
    calling_ae_title: str = AE_TITLE,
    called_ae_title: str = "NODE",
    number: int | None = None,
) -> int:
    """Report as an archive does hours later: as the requestor, in the role of the SCP; return the status."""
    ae = AE(ae_title=calling_ae_title)
    ae.add_requested_context(StorageCommitmentPushModel)
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
    association = ae.associate("127.0.0.1", port, ae_title=called_ae_title, ext_neg=roles)
    assert association.is_established
    try:
        chosen = event_type(information) if number is None else number
        status, _ = association.send_n_event_report(
            information, chosen, StorageCommitmentPushModel, COMMITMENT_INSTANCE
        )
    finally:
        association.release()
    return int(status.Status)

"""C-MOVE through the outbox: dcmtk's movescu and storescp, and pynetdicom on both sides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.dimse import DimseServer
from dicom_node.dimse.query.policy import QueryRetrieve
from dicom_node.peers import deliver
from dicom_node.pipeline.delivery import Outbox
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.settings import DimsePeer, DimseSettings, QueryRetrieveSettings
from dicom_node.store import JobState, Store
from tests.arrivals import leave_results, receive
from tests.dimse.query.archive import AE_TITLE, Archive
from tests.dimse.query.asking import asking, identifier
from tests.factories import EncodedInstance, ct_series
from tests.new_store import NewStore
from tests.peer_servers import DimsePeerServer, free_port, run_tool, start_storescp

pytestmark = pytest.mark.peers

STUDY_ROOT, PATIENT_ROOT = StudyRootQueryRetrieveInformationModelMove, PatientRootQueryRetrieveInformationModelMove
SUCCESS, SOME_FAILED, NONE_SENT, CANCELLED = 0x0000, 0xB000, 0xA702, 0xFE00
UNKNOWN_DESTINATION, REFUSED, PENDING = 0xA801, 0xA900, 0xFF00
OUT_OF_RESOURCES = 0xA700
WAIT_S = 3.0


@dataclass
class Destination:
    """A peer that takes CT only, answers with `status`, and remembers what it was sent."""

    port: int
    status: int = SUCCESS
    hold: threading.Event = field(default_factory=threading.Event)  # instances are answered once it is set
    received: list[tuple[str, str, int]] = field(default_factory=list)  # UID, and who asked for it, in which message

    def handle(self, event: evt.Event) -> int:
        self.hold.wait(20)
        request = event.request
        self.received.append(
            (
                str(request.AffectedSOPInstanceUID),
                request.MoveOriginatorApplicationEntityTitle,
                request.MoveOriginatorMessageID,
            )
        )
        return self.status


@dataclass(frozen=True)
class Moving(Archive):
    """A node with CT and results, and its peers."""

    storescp: DimsePeerServer
    destination: Destination
    images: list[EncodedInstance]
    results: list[EncodedInstance]


@contextmanager
def sending(store: Store, peers: list[DimsePeer]) -> Iterator[None]:
    """Deliver what is due, as the scheduler does, with an own thread for each peer."""
    stopping = threading.Event()

    def run(outbox: Outbox) -> None:
        while not stopping.wait(0.1):
            outbox.deliver_due(must_stop=stopping.is_set)

    send = partial(deliver, calling_ae_title=AE_TITLE, timeout_s=10.0)
    threads = []
    for peer in peers:
        outbox = Outbox(store, peer, send, RetryPolicy(20, 1.0, 2.0), 60.0, peer.name, lambda: datetime.now(UTC))
        threads.append(threading.Thread(target=run, args=(outbox,)))
        threads[-1].start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def node(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moving]:
    folder = tmp_path_factory.mktemp("moving")
    destination = Destination(free_port())
    ae = AE(ae_title="CTONLY")
    ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    images = list(ct_series(3, rows=16, columns=16, seed="moved"))
    with start_storescp(folder) as storescp, new_store(folder / "data") as store:
        ports = {"STORESCP": storescp.port, "CTONLY": destination.port, "AWAY": free_port(), "SHUT": 104}
        peers = [
            DimsePeer(name=title.lower(), ae_title=title, host="127.0.0.1", port=port, may_retrieve=title != "SHUT")
            for title, port in ports.items()
        ]
        asker = DimsePeer(name="both", ae_title="BOTH", host="127.0.0.1", port=104)
        policy = QueryRetrieve(AE_TITLE, QueryRetrieveSettings(move_wait_s=WAIT_S), [*peers, asker], None)
        settings = DimseSettings(host="127.0.0.1", port=0)
        server = ae.start_server(
            ("127.0.0.1", destination.port), block=False, evt_handlers=[(evt.EVT_C_STORE, destination.handle)]
        )
        assert server is not None
        with DimseServer(store, settings, ae_title=AE_TITLE, query_retrieve=policy) as listening, sending(store, peers):
            receive(store, images)
            results = leave_results(store)
            yield Moving(listening, store, storescp, destination, images, results)
        server.shutdown()


@pytest.fixture(autouse=True)
def _destination_is_ready(node: Moving) -> None:
    node.destination.received.clear()
    node.destination.status = SUCCESS
    node.destination.hold.set()


@pytest.fixture
def asker(node: Moving) -> Iterator[Association]:
    """An association for each test: one that a test has lost fails no other."""
    with asking(node.port, STUDY_ROOT, PATIENT_ROOT) as association:
        yield association


def study_of(instances: list[EncodedInstance]) -> str:
    return str(instances[0].dataset().StudyInstanceUID)


def uids_of(instances: list[EncodedInstance]) -> set[str]:
    return {str(one.dataset().SOPInstanceUID) for one in instances}


def move(
    asker: Association, ds: Dataset, destination: str, root: UID = STUDY_ROOT, message_id: int = 7
) -> list[tuple[Dataset, Dataset | None]]:
    return list(asker.send_c_move(ds, destination, root, msg_id=message_id))


def numbers(answer: Dataset) -> tuple[int | None, int, int]:
    """Remaining, completed and failed sub-operations."""
    return (
        answer.get("NumberOfRemainingSuboperations"),
        answer.NumberOfCompletedSuboperations,
        answer.NumberOfFailedSuboperations,
    )


def moved(store: Store) -> list[JobState]:
    return [delivery.state for delivery in store.deliveries.list() if delivery.move_originator is not None]


@pytest.mark.parametrize(
    ("root", "level", "n_expected"),
    [("-S", "STUDY", 3), ("-S", "SERIES", 3), ("-S", "IMAGE", 1), ("-P", "STUDY", 3), ("-P", "IMAGE", 1)],
)
def test_movescu_has_images_sent_to_storescp(node: Moving, root: str, level: str, n_expected: int) -> None:
    for path in node.storescp.folder.iterdir():
        path.unlink()
    ds = node.images[0].dataset()
    levels = ["PATIENT", "STUDY", "SERIES", "IMAGE"]
    keys = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"][
        root == "-S" : levels.index(level) + 1
    ]
    options = [f"QueryRetrieveLevel={level}", *(f"{keyword}={ds[keyword].value}" for keyword in keys)]
    answer = run_tool(
        "movescu", "-v", root, "-aet", "BOTH", "-aec", "NODE", "-aem", "STORESCP",
        *(part for option in options for part in ("-k", option)), "127.0.0.1", node.port,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout
    assert "Received Final Move Response (Success)" in answer.stdout
    received = {dcmread(path).SOPInstanceUID for path in node.storescp.folder.iterdir()}
    assert len(received) == n_expected
    assert received <= uids_of(node.images)


def test_results_are_moved_like_sources_and_the_destination_learns_who_asked(node: Moving, asker: Association) -> None:
    answers = move(asker, identifier("STUDY", StudyInstanceUID=study_of(node.results)), "STORESCP")
    assert (answers[-1][0].Status, numbers(answers[-1][0])) == (SUCCESS, (None, 2, 0))
    received = {dcmread(path).SOPInstanceUID for path in node.storescp.folder.iterdir()}
    assert uids_of(node.results) <= received
    answers = move(asker, identifier("STUDY", StudyInstanceUID=study_of(node.images)), "CTONLY", message_id=99)
    assert answers[-1][0].Status == SUCCESS
    assert {(title.strip(), number) for _, title, number in node.destination.received} == {("BOTH", 99)}
    pending = [numbers(answer) for answer, _ in answers[:-1]]
    assert pending[0] == (3, 0, 0)
    assert {answer.Status for answer, _ in answers[:-1]} == {PENDING}


def test_what_the_destination_does_not_take_is_counted_and_named(node: Moving, asker: Association) -> None:
    """It takes no MR."""
    studies = [study_of(node.images), study_of(node.results)]
    answers = move(asker, identifier("STUDY", StudyInstanceUID=studies), "CTONLY")
    last, failed = answers[-1]
    assert (last.Status, numbers(last)) == (SOME_FAILED, (None, 3, 2))
    assert last.ErrorComment == "2 not sent: context-refused"
    assert failed is not None
    assert set(failed.FailedSOPInstanceUIDList) == uids_of(node.results)
    answers = move(asker, identifier("STUDY", StudyInstanceUID=studies[1]), "CTONLY")
    assert (answers[-1][0].Status, numbers(answers[-1][0])) == (NONE_SENT, (None, 0, 2))


def test_a_destination_that_is_away_fails_it_but_the_outbox_goes_on(node: Moving, asker: Association) -> None:
    began = time.monotonic()
    answers = move(asker, identifier("STUDY", StudyInstanceUID=study_of(node.images)), "AWAY")
    assert time.monotonic() - began < 10 * WAIT_S
    last = answers[-1][0]
    assert (last.Status, numbers(last)) == (NONE_SENT, (None, 0, 3))
    assert last.ErrorComment == "3 not sent: peer-unreachable; 3 will be tried again"
    waiting = [one for one in node.store.deliveries.list(peer="away") if one.state is not JobState.SUCCEEDED]
    assert len(waiting) == 3
    assert {one.error_code for one in waiting} == {"peer-unreachable"}
    for one in waiting:
        node.store.deliveries.cancel(one.id, datetime.now(UTC))


def test_a_c_cancel_ends_it_and_cancels_what_waits(node: Moving, asker: Association) -> None:
    ds = identifier("STUDY", StudyInstanceUID=study_of(node.images))
    answers = []
    for answer in asker.send_c_move(ds, "AWAY", STUDY_ROOT, msg_id=11):
        answers.append(answer[0])
        if len(answers) == 1:
            asker.send_c_cancel(11, query_model=STUDY_ROOT)
    assert (answers[-1].Status, numbers(answers[-1])) == (CANCELLED, (3, 0, 0))
    assert {one.state for one in node.store.deliveries.list(peer="away")} == {JobState.CANCELLED}


def test_a_c_cancel_while_it_is_being_sent_leaves_nothing_to_be_tried_again(
    node: Moving, asker: Association, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was being sent when it was cancelled fails for now, which would put it back among what waits."""
    is_cancelled = threading.Event()
    cancel = node.store.moves.cancel

    def cancel_and_tell(move_id: str, now: datetime) -> int:
        n_cancelled = cancel(move_id, now)
        is_cancelled.set()
        return n_cancelled

    monkeypatch.setattr(node.store.moves, "cancel", cancel_and_tell)
    node.destination.status = OUT_OF_RESOURCES
    node.destination.hold.clear()
    ds = identifier("STUDY", StudyInstanceUID=study_of(node.images))
    answers = []
    for answer in asker.send_c_move(ds, "CTONLY", STUDY_ROOT, msg_id=12):
        answers.append(answer[0])
        if len(answers) == 1:
            wait_until(lambda: JobState.RUNNING in moved(node.store))
            asker.send_c_cancel(12, query_model=STUDY_ROOT)
            assert is_cancelled.wait(60)
            node.destination.hold.set()
    assert (answers[-1].Status, numbers(answers[-1])) == (CANCELLED, (3, 0, 0))
    ended = {JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED}
    assert set(moved(node.store)) <= ended


def test_who_asks_may_leave_and_the_instances_are_sent(node: Moving) -> None:
    node.destination.hold.clear()
    with asking(node.port, STUDY_ROOT) as association:
        ds = identifier("STUDY", StudyInstanceUID=study_of(node.images))
        answers = association.send_c_move(ds, "CTONLY", STUDY_ROOT)
        next(answers)
        association.abort()
    node.destination.hold.set()
    wait_until(lambda: len(node.destination.received) == 3)
    wait_until(lambda: set(moved(node.store)) <= {JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED})


def wait_until(is_so: Callable[[], bool]) -> None:
    end_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end_at
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("destination", "ds", "status", "named"),
    [
        (
            "NOBODY",
            identifier("STUDY", StudyInstanceUID="1.2"),
            UNKNOWN_DESTINATION,
            "Move Destination is the AE title",
        ),
        ("SHUT", identifier("STUDY", StudyInstanceUID="1.2"), UNKNOWN_DESTINATION, "Move Destination is the AE title"),
        ("CTONLY", identifier("STUDY"), REFUSED, "StudyInstanceUID is missing"),
        ("CTONLY", identifier("IMAGE", StudyInstanceUID="1.2"), REFUSED, "SeriesInstanceUID is missing"),
    ],
)
def test_a_request_that_cannot_be_performed_is_refused(
    node: Moving, asker: Association, destination: str, ds: Dataset, status: int, named: str
) -> None:
    n_before = len(moved(node.store))
    ((answer, _),) = move(asker, ds, destination)
    assert answer.Status == status
    assert answer.ErrorComment.startswith(named)
    assert len(moved(node.store)) == n_before


def test_nothing_found_is_a_success(node: Moving, asker: Association) -> None:
    ((answer, _),) = move(asker, identifier("STUDY", StudyInstanceUID="1.2.3.4.5"), "CTONLY")
    assert (answer.Status, numbers(answer)) == (SUCCESS, (None, 0, 0))
    assert node.destination.received == []


def test_a_move_that_failed_keeps_no_sources_from_being_deleted(node: Moving, asker: Association) -> None:
    """Who asked was told; nobody decides on it any more."""
    node.destination.status = 0xC000
    answers = move(asker, identifier("STUDY", StudyInstanceUID=study_of(node.images)), "CTONLY")
    assert (answers[-1][0].Status, answers[-1][0].ErrorComment) == (NONE_SENT, "3 not sent: store-refused")
    (of_images,) = [one for one in node.store.retention.survey() if one.study_instance_uid == study_of(node.images)]
    assert not of_images.has_open_deliveries


def test_ended_moves_are_forgotten_after_a_while(node: Moving, asker: Association) -> None:
    move(asker, identifier("STUDY", StudyInstanceUID=study_of(node.images)), "CTONLY")
    n_before = len(node.store.deliveries.list(limit=1000))
    now = datetime.now(UTC)
    assert node.store.moves.forget(now - timedelta(days=30)) == 0
    n_forgotten = node.store.moves.forget(now + timedelta(seconds=1))
    assert n_forgotten > 0
    assert moved(node.store) == []
    assert len(node.store.deliveries.list(limit=1000)) == n_before - n_forgotten

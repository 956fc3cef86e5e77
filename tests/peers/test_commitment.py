"""Peers commit to what they accepted, report when and where they like, and nothing counts that is not said clearly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from dicom_node.dimse import DimseServer
from dicom_node.peers import ObjectToSend, SendOutcome, deliver, request_commitment
from dicom_node.pipeline.commitment import CommitmentDesk, forget_requests
from dicom_node.pipeline.delivery import Outbox
from dicom_node.pipeline.retention import delete_sources, plan_deletions
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.settings import CommitmentSettings, DimsePeer, DimseSettings, RetentionSettings
from dicom_node.store import CommitmentState, DeliveryRow, Store
from tests.arrivals import NOON, leave_results
from tests.commitment_scp import (
    AE_TITLE,
    NO_SUCH_INSTANCE,
    Archive,
    Behaviour,
    report_of,
    report_on_own_association,
    start_commitment_scp,
)
from tests.new_store import NewStore
from tests.node_process import wait_for
from tests.peer_servers import free_port, start_orthanc

LATER = NOON + timedelta(minutes=2)
HOUR = timedelta(hours=1)
SETTINGS = CommitmentSettings(ask_again_s=3600.0, wait_s=5.0, max_requests=3)
NO_WAIT = SETTINGS.model_copy(update={"wait_s": 0.0})
DUE, ASKED, COMMITTED = CommitmentState.DUE, CommitmentState.ASKED, CommitmentState.COMMITTED
FAILED, NOT_OFFERED = CommitmentState.FAILED, CommitmentState.NOT_OFFERED


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "data") as opened:
        yield opened


def never() -> bool:
    return False


def peer_at(port: int, name: str = "archive", ae_title: str = AE_TITLE) -> DimsePeer:
    return DimsePeer(name=name, ae_title=ae_title, host="127.0.0.1", port=port, commitment=True)


def deliver_results(store: Store, peer: DimsePeer, *, n_results: int = 2) -> None:
    """Have results that the peer has accepted; it is a stand-in that stores everything."""
    leave_results(store, peer.name, n_results=n_results)
    send_all(store, peer)


def send_all(store: Store, peer: DimsePeer) -> None:
    def accept(_peer: object, objects: list[ObjectToSend]) -> tuple[SendOutcome, ...]:
        return tuple(SendOutcome(one.sop_instance_uid) for one in objects)

    outbox = Outbox(store, peer, accept, RetryPolicy(1, 1.0), 60.0, "w", lambda: LATER)  # type: ignore[arg-type]
    assert outbox.deliver_due(must_stop=never) > 0


def desk(
    store: Store, peer: DimsePeer, *, now: datetime = LATER, settings: CommitmentSettings = SETTINGS
) -> CommitmentDesk:
    request = partial(request_commitment, calling_ae_title="NODE", timeout_s=10.0, wait_s=settings.wait_s)
    return CommitmentDesk(store, peer, settings, request, lambda: now)


def ask(store: Store, peer: DimsePeer, *, now: datetime = LATER, settings: CommitmentSettings = SETTINGS) -> int:
    return desk(store, peer, now=now, settings=settings).ask_due(must_stop=never)


def states(store: Store) -> dict[str, CommitmentState | None]:
    return {row.sop_instance_uid: row.commitment for row in store.deliveries.list()}


def would_be_deleted(store: Store) -> int:
    """Number of series whose sources retention would delete if it waits for the archive."""
    sources = store.retention.survey(committing_peers=["archive"])
    policy = RetentionSettings(sources_days=1.0)
    planned = plan_deletions(sources, policy, now=LATER + timedelta(days=99), free_bytes=0)
    return sum(one.because is not None for one in planned)


@pytest.mark.parametrize("behaviour", [Behaviour.AFTER, Behaviour.BEFORE])
def test_a_report_on_the_same_association_commits(store: Store, behaviour: Behaviour) -> None:
    with start_commitment_scp(behaviour) as archive:
        peer = peer_at(archive.port)
        deliver_results(store, peer)
        assert would_be_deleted(store) == 0
        assert ask(store, peer) == 1
        assert set(states(store).values()) == {COMMITTED}
        wait_for("the response to the report", lambda: archive.answers == [0x0000])
        (request,) = archive.requests
        assert {str(item.ReferencedSOPInstanceUID) for item in request.ReferencedSOPSequence} == set(states(store))
        assert would_be_deleted(store) == 1
        assert ask(store, peer, now=LATER + timedelta(days=30)) == 0  # nothing is asked twice when confirmed
        assert len(archive.requests) == 1


@pytest.fixture
def node(store: Store) -> Iterator[DimseServer]:
    settings = DimseSettings(host="127.0.0.1", port=0)
    peers = {AE_TITLE: ["archive"], "OTHER": ["other"], "ORTHANC": ["archive"]}
    with DimseServer(store, settings, ae_title="NODE", commitment_peers=peers, clock=lambda: LATER) as server:
        yield server


@pytest.fixture
def silent(store: Store) -> Iterator[Archive]:
    """An archive that accepts a request and does not report on the same association; two results are asked for."""
    with start_commitment_scp(Behaviour.SILENT) as archive:
        peer = peer_at(archive.port)
        deliver_results(store, peer)
        assert ask(store, peer, settings=NO_WAIT) == 1
        assert set(states(store).values()) == {ASKED}
        yield archive


def test_a_report_on_an_association_of_its_own_commits(store: Store, node: DimseServer, silent: Archive) -> None:
    assert report_on_own_association(node.port, report_of(silent.requests[0])) == 0x0000
    assert set(states(store).values()) == {COMMITTED}


def test_what_is_reported_as_failed_is_not_committed_and_says_why(
    store: Store, node: DimseServer, silent: Archive
) -> None:
    bad, good = sorted(states(store))
    assert report_on_own_association(node.port, report_of(silent.requests[0], failed=[bad])) == 0x0000
    assert states(store) == {bad: FAILED, good: COMMITTED}
    (row,) = [row for row in store.deliveries.list() if row.sop_instance_uid == bad]
    assert row.commitment_reason == "0x0112 no such object instance"
    assert would_be_deleted(store) == 0
    assert ask(store, peer_at(silent.port), now=LATER + HOUR - timedelta(seconds=1), settings=NO_WAIT) == 0
    assert ask(store, peer_at(silent.port), now=LATER + HOUR, settings=NO_WAIT) == 1
    (item,) = silent.requests[1].ReferencedSOPSequence  # the other one is confirmed
    assert item.ReferencedSOPInstanceUID == bad


def test_what_is_in_no_list_or_in_both_stays_uncommitted(store: Store, node: DimseServer, silent: Archive) -> None:
    one, two = sorted(states(store))
    assert report_on_own_association(node.port, report_of(silent.requests[0], left_out=[one])) == 0x0000
    assert states(store) == {one: ASKED, two: COMMITTED}
    both = report_of(silent.requests[0], failed=[one])
    both.ReferencedSOPSequence = [*both.ReferencedSOPSequence, *both.FailedSOPSequence]
    assert report_on_own_association(node.port, both) == 0x0000
    assert states(store) == {one: ASKED, two: COMMITTED}
    assert would_be_deleted(store) == 0


def test_an_empty_report_commits_nothing(store: Store, node: DimseServer, silent: Archive) -> None:
    empty = Dataset()
    empty.TransactionUID = silent.requests[0].TransactionUID
    assert report_on_own_association(node.port, empty) == 0x0000
    assert set(states(store).values()) == {ASKED}


def test_an_instance_of_another_class_is_not_the_one_that_was_asked_for(
    store: Store, node: DimseServer, silent: Archive
) -> None:
    report = report_of(silent.requests[0])
    for item in report.ReferencedSOPSequence:
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    assert report_on_own_association(node.port, report) == 0x0000
    assert set(states(store).values()) == {ASKED}


def test_a_report_that_nobody_asked_for_is_refused(store: Store, node: DimseServer, silent: Archive) -> None:
    report = report_of(silent.requests[0])
    assert report_on_own_association(node.port, report, calling_ae_title="OTHER") == 0x0112
    assert report_on_own_association(node.port, report, calling_ae_title="STRANGER") == 0x0110
    assert report_on_own_association(node.port, report, number=7) == 0x0113
    report.TransactionUID = "1.2.3.4"
    assert report_on_own_association(node.port, report) == 0x0112
    del report.TransactionUID
    assert report_on_own_association(node.port, report) == 0x0115
    assert set(states(store).values()) == {ASKED}


def test_a_report_of_another_transaction_on_the_same_association_is_refused(store: Store) -> None:
    with start_commitment_scp(Behaviour.BEFORE) as archive:

        def of_another(request: Dataset) -> Dataset:
            report = report_of(request)
            report.TransactionUID = "1.2.3.4"
            return report

        archive.report = of_another
        peer = peer_at(archive.port)
        deliver_results(store, peer)
        assert ask(store, peer, settings=NO_WAIT) == 1
        wait_for("the response to the report", lambda: archive.answers == [0x0112])
        assert set(states(store).values()) == {ASKED}


def test_a_report_to_another_ae_title_is_refused(store: Store, silent: Archive) -> None:
    settings = DimseSettings(host="127.0.0.1", port=0, require_called_ae_title=False)
    peers = {AE_TITLE: ["archive"]}
    with DimseServer(store, settings, ae_title="NODE", commitment_peers=peers) as server:
        report = report_of(silent.requests[0])
        assert report_on_own_association(server.port, report, called_ae_title="ELSE") == 0x0110
        assert set(states(store).values()) == {ASKED}
        assert report_on_own_association(server.port, report) == 0x0000


def test_a_silent_peer_is_asked_again_and_its_late_report_still_counts(
    store: Store, node: DimseServer, silent: Archive
) -> None:
    peer = peer_at(silent.port)
    assert ask(store, peer, now=LATER + HOUR / 2, settings=NO_WAIT) == 0
    assert ask(store, peer, now=LATER + HOUR, settings=NO_WAIT) == 1
    first, second = silent.transaction_uids
    assert first != second
    assert report_on_own_association(node.port, report_of(silent.requests[0])) == 0x0000
    assert set(states(store).values()) == {COMMITTED}
    assert ask(store, peer, now=LATER + 9 * HOUR, settings=NO_WAIT) == 0
    # The report on the second request changes nothing any more, whatever it says.
    late = report_of(silent.requests[1], failed=list(states(store)))
    assert report_on_own_association(node.port, late) == 0x0000
    assert set(states(store).values()) == {COMMITTED}


def test_a_peer_that_never_reports_is_left_to_a_person_in_the_end(store: Store, silent: Archive) -> None:
    peer = peer_at(silent.port)
    for n_hours in (1, 2, 3, 4):
        ask(store, peer, now=LATER + n_hours * HOUR, settings=NO_WAIT)
    assert len(silent.requests) == 3
    assert set(states(store).values()) == {FAILED}
    rows = store.deliveries.list()
    assert {row.commitment_reason for row in rows} == {"no report on 3 requests"}
    assert all(store.commitments.ask_again(row.id, LATER + 5 * HOUR) for row in rows)
    assert ask(store, peer, now=LATER + 5 * HOUR, settings=NO_WAIT) == 1
    assert len(silent.requests) == 4


def test_a_peer_that_refuses_or_aborts_is_asked_again(store: Store, node: DimseServer) -> None:
    with start_commitment_scp(Behaviour.REFUSE) as archive:
        peer = peer_at(archive.port)
        deliver_results(store, peer)
        assert ask(store, peer) == 0
        assert set(states(store).values()) == {FAILED}
        assert {row.commitment_reason for row in store.deliveries.list()} == {"N-ACTION answered with status 0x0110"}
        archive.behaviour = Behaviour.ABORT
        assert ask(store, peer, now=LATER + HOUR) == 0
        assert set(states(store).values()) == {ASKED}
        # It may have got the request before it failed: its report counts.
        assert report_on_own_association(node.port, report_of(archive.requests[1])) == 0x0000
        assert set(states(store).values()) == {COMMITTED}


def test_a_peer_without_the_service_is_visible_and_no_failure(store: Store) -> None:
    with start_commitment_scp(Behaviour.AFTER, offers=False) as archive:
        peer = peer_at(archive.port)
        deliver_results(store, peer)
        for n_hours in range(6):
            assert ask(store, peer, now=LATER + n_hours * HOUR) == 0
            assert set(states(store).values()) == {NOT_OFFERED}
        assert store.commitments.counts() == {"archive": {NOT_OFFERED: 2}}
        offered = {one.sop_class_uid: one.is_accepted for one in store.peer_contexts.list()}
        assert offered["1.2.840.10008.1.20.1"] is False
        assert would_be_deleted(store) == 0
        port = archive.port
    with start_commitment_scp(Behaviour.AFTER, port=port) as archive:
        assert ask(store, peer, now=LATER + 6 * HOUR) == 1
        assert set(states(store).values()) == {COMMITTED}
        offered = {one.sop_class_uid: one.is_accepted for one in store.peer_contexts.list()}
        assert offered["1.2.840.10008.1.20.1"] is True


def test_a_peer_that_is_away_is_asked_when_it_is_back_and_nothing_is_counted(store: Store) -> None:
    port = free_port()
    peer = peer_at(port)
    deliver_results(store, peer)
    for n_minutes in range(0, 60, 10):
        assert ask(store, peer, now=LATER + timedelta(minutes=n_minutes)) == 0
    assert set(states(store).values()) == {DUE}
    with start_commitment_scp(Behaviour.AFTER, port=port):
        assert ask(store, peer, now=LATER + HOUR) == 1
        assert set(states(store).values()) == {COMMITTED}


def test_a_peer_that_restarts_after_the_request_is_asked_again(store: Store, silent: Archive) -> None:
    """It forgot the request; nothing tells, but time."""
    peer = peer_at(silent.port)
    silent.behaviour = Behaviour.AFTER
    assert ask(store, peer, now=LATER + HOUR) == 1
    assert set(states(store).values()) == {COMMITTED}


def test_requests_are_bounded(store: Store) -> None:
    with start_commitment_scp(Behaviour.BEFORE) as archive:
        peer = peer_at(archive.port)
        deliver_results(store, peer, n_results=5)
        assert ask(store, peer, settings=SETTINGS.model_copy(update={"max_instances": 2})) == 3
        assert [len(request.ReferencedSOPSequence) for request in archive.requests] == [2, 2, 1]
        assert set(states(store).values()) == {COMMITTED}


def test_what_was_delivered_before_the_setting_is_asked_for_too(store: Store) -> None:
    with start_commitment_scp(Behaviour.AFTER) as archive:
        peer = peer_at(archive.port)
        deliver_results(store, peer.model_copy(update={"commitment": False}))
        assert ask(store, peer) == 0
        assert set(states(store).values()) == {None}
        assert would_be_deleted(store) == 0
        assert store.commitments.enroll("archive", LATER) == 2
        assert store.commitments.enroll("archive", LATER) == 0
        assert ask(store, peer) == 1
        assert set(states(store).values()) == {COMMITTED}


def test_only_peers_that_are_set_to_commit_are_waited_for(store: Store) -> None:
    peer = peer_at(free_port())
    deliver_results(store, peer)
    policy = RetentionSettings(sources_days=1.0)
    assert delete_sources(store, policy, now=LATER + 48 * HOUR, committing_peers=["archive"]) == 0
    assert delete_sources(store, policy, now=LATER + 48 * HOUR) == 1


def test_old_requests_are_deleted_except_those_whose_report_may_still_come(
    store: Store, node: DimseServer, silent: Archive
) -> None:
    keep = SETTINGS.model_copy(update={"keep_requests_days": 30.0})
    month = timedelta(days=30)
    bad, good = sorted(states(store))
    assert report_on_own_association(node.port, report_of(silent.requests[0], left_out=[bad])) == 0x0000
    assert states(store) == {bad: ASKED, good: COMMITTED}
    assert forget_requests(store, keep, now=LATER + month) == 0  # a report on it may still come
    assert report_on_own_association(node.port, report_of(silent.requests[0])) == 0x0000
    assert forget_requests(store, keep, now=LATER + month - HOUR) == 0
    assert forget_requests(store, keep, now=LATER + month) == 1
    (entry,) = store.audit.of("archive", action="commitment-requests-deleted")
    assert (entry.actor, entry.detail["n_requests"]) == ("node", 1)
    assert forget_requests(store, keep, now=LATER + month) == 0
    assert len(store.audit.of("archive", action="commitment-requests-deleted")) == 1
    # What the peer has promised stays, it is not asked again, and what it says of the request is not taken any more.
    assert ask(store, peer_at(silent.port), now=LATER + month, settings=NO_WAIT) == 0
    late = report_of(silent.requests[0], failed=[bad, good])
    assert report_on_own_association(node.port, late) == 0x0112
    assert set(states(store).values()) == {COMMITTED}


def committed_rows(store: Store) -> list[DeliveryRow]:
    return [row for row in store.deliveries.list() if row.commitment is COMMITTED]


@pytest.mark.peers
def test_orthanc_commits_to_what_it_has_and_to_nothing_else(store: Store, node: DimseServer, tmp_path: Path) -> None:
    with start_orthanc(tmp_path / "orthanc", modalities={"node": ("NODE", node.port)}) as orthanc:
        peer = DimsePeer(name="archive", ae_title="ORTHANC", host=orthanc.host, port=orthanc.port, commitment=True)
        results = leave_results(store, "archive")
        send = partial(deliver, calling_ae_title="NODE", timeout_s=30.0)
        assert (
            Outbox(store, peer, send, RetryPolicy(3, 1.0), 60.0, "w", lambda: LATER).deliver_due(must_stop=never) == 2
        )
        lost = str(results[0].dataset().SOPInstanceUID)
        found = httpx.post(f"{orthanc.url}/tools/lookup", content=lost, trust_env=False, timeout=60).json()
        httpx.delete(f"{orthanc.url}/instances/{found[0]['ID']}", trust_env=False).raise_for_status()
        assert ask(store, peer, settings=SETTINGS.model_copy(update={"wait_s": 30.0})) == 1
        wait_for("the report of Orthanc", lambda: FAILED in states(store).values(), timeout_s=30.0)
        assert states(store)[lost] is FAILED
        assert len(committed_rows(store)) == 1
        (row,) = [row for row in store.deliveries.list() if row.sop_instance_uid == lost]
        assert row.commitment_reason == f"0x{NO_SUCH_INSTANCE:04X} no such object instance"
        assert json.dumps(store.commitments.counts()) == '{"archive": {"committed": 1, "failed": 1}}'

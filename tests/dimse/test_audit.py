"""What the audit trail has of associations: one entry each, with what was done over it."""

from __future__ import annotations

from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from dicom_node.dimse.record import MAX_OF_HOST
from dicom_node.store import AuditRow
from tests.dimse.conftest import AE_TITLE
from tests.dimse.listening_node import ListeningNode, StartNode
from tests.factories import ct_series


def entries(node: ListeningNode) -> list[AuditRow]:
    node.store.audit_buffer.flush()
    return list(reversed(node.store.audit.list()))


def associate(node: ListeningNode, ae_title: str, *, called: str = AE_TITLE, n_instances: int = 0) -> None:
    ae = AE(ae_title)
    ae.add_requested_context(Verification)
    ae.add_requested_context(CTImageStorage)
    association = ae.associate("127.0.0.1", node.port, ae_title=called)
    if association.is_established:
        association.send_c_echo()
        for instance in ct_series(n_slices=max(n_instances, 1), rows=16)[:n_instances]:
            association.send_c_store(instance.dataset())
        association.release()


def test_an_association_is_one_entry_however_much_it_carried(start_node: StartNode) -> None:
    with start_node() as node:
        associate(node, "CT1", n_instances=3)
        node.server.stop()
        (entry,) = entries(node)
        assert (entry.action, entry.actor) == ("association", "CT1")
        assert entry.detail["answered"] == {"C-ECHO": 1, "C-STORE": 3}
        assert (entry.detail["address"], entry.detail["outcome"]) == ("127.0.0.1", "released")
        assert "failed" not in entry.detail
        assert {row.association_id for row in node.instances()} == {entry.subject}


def test_refused_instances_are_counted(start_node: StartNode) -> None:
    with start_node(min_free_bytes=2**60) as node:
        associate(node, "CT1", n_instances=2)
        node.server.stop()
        (entry,) = entries(node)
        assert entry.detail["failed"] == {"C-STORE": 2}


def test_echoes_of_one_peer_are_one_entry_an_hour(start_node: StartNode) -> None:
    with start_node() as node:
        for _ in range(3):
            associate(node, "MONITOR")
        node.server.stop()
        assert [entry.actor for entry in entries(node)] == ["MONITOR"]


def test_a_rejected_association_is_recorded_once_a_minute_with_its_reason(start_node: StartNode) -> None:
    with start_node(allowed_calling_ae_titles=["CT1"]) as node:
        for title in ("EVIL", "EVIL2"):
            associate(node, title)
        associate(node, "CT1", called="OTHER")
        node.server.stop()
        found = [(entry.action, entry.actor, entry.subject) for entry in entries(node)]
        assert found == [("association-rejected", "EVIL", "127.0.0.1"), ("association-rejected", "CT1", "127.0.0.1")]
        reasons = [entry.detail["reason"] for entry in entries(node)]
        assert "calling" in reasons[0].lower()
        assert "called" in reasons[1].lower()


def test_made_up_ae_titles_do_not_fill_the_trail(start_node: StartNode) -> None:
    with start_node() as node:
        for number in range(MAX_OF_HOST + 5):
            associate(node, f"TITLE{number}")
        node.server.stop()
        assert len(entries(node)) == MAX_OF_HOST


def test_associations_that_only_failed_are_one_entry_a_minute(start_node: StartNode) -> None:
    with start_node(min_free_bytes=2**60) as node:
        for _ in range(3):
            associate(node, "CT1", n_instances=1)
        associate(node, "CT2", n_instances=1)
        node.server.stop()
        assert [entry.actor for entry in entries(node)] == ["CT1", "CT2"]


def test_associations_that_stored_are_each_an_entry(start_node: StartNode) -> None:
    with start_node() as node:
        for _ in range(3):
            associate(node, "CT1", n_instances=1)
        node.server.stop()
        assert [entry.actor for entry in entries(node)] == ["CT1"] * 3

"""Received series are forwarded to peers, with or without results, each instance once and byte for byte."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import yaml
from pydicom import dcmread

from dicom_node.peers import deliver
from dicom_node.pipeline.completeness import Patience
from dicom_node.pipeline.delivery import Outbox
from dicom_node.pipeline.errors import RulesError
from dicom_node.pipeline.intake import RoutingPolicy, complete_quiet_series
from dicom_node.pipeline.retry import RetryPolicy
from dicom_node.pipeline.rules import Rules, load_rules
from dicom_node.settings import DimsePeer
from dicom_node.store import DeliveryRow, JobState, NotSendableError, Store
from tests.arrivals import NOON, dataset_bytes, receive, witnesses
from tests.factories import ct_series
from tests.peer_servers import DimsePeerServer, start_storescp

LATER = NOON + timedelta(minutes=2)
DEFAULT = load_rules(None, peer_names=())


def close(store: Store, *, rules: Rules = DEFAULT, forward_to: tuple[str, ...] = ("archive",)) -> None:
    policy = RoutingPolicy(rules, ("pacs",), "d", forward_to)
    complete_quiet_series(store, policy, witnesses(store, 1), patience=Patience(1, 1), now=LATER)


def rules_with(folder: Path, **rule: object) -> Rules:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"series": [{"name": "all", "action": "process", **rule}]}))
    return load_rules(path, peer_names=("archive", "pacs"))


def sources(store: Store) -> list[DeliveryRow]:
    return [row for row in store.deliveries.list() if row.result_id is None]


def test_the_instances_of_a_closed_series_are_queued_once_and_late_ones_follow(store: Store) -> None:
    series = ct_series(n_slices=4)
    receive(store, series[:3])
    assert sources(store) == []
    close(store)
    assert [row.sop_instance_uid for row in reversed(sources(store))] == [str(uid) for uid in _uids(series[:3])]
    assert {(row.peer, row.state, row.job_id) for row in sources(store)} == {("archive", JobState.QUEUED, None)}
    for delivery in store.deliveries.claim_due("w", LATER, 60, peer="archive"):
        store.deliveries.succeed(delivery.id, "w", LATER)
    receive(store, series[3:], at=NOON + timedelta(seconds=90))
    close(store)
    assert [row.state for row in sources(store)] == [JobState.QUEUED, *[JobState.SUCCEEDED] * 3]
    assert len(store.jobs.list()) == 2  # it is processed anew as a whole


def _uids(instances: object) -> list[str]:
    return [str(one.dataset().SOPInstanceUID) for one in instances]  # type: ignore[attr-defined]


def test_a_series_that_no_model_looks_at_is_forwarded_too(store: Store, tmp_path: Path) -> None:
    receive(store, ct_series(n_slices=2))
    close(store, rules=rules_with(tmp_path, action="skip", reason="never"))
    assert store.jobs.list() == ()
    assert len(sources(store)) == 2


def test_a_rule_says_otherwise(store: Store, tmp_path: Path) -> None:
    receive(store, ct_series(n_slices=2, seed="none"))
    close(store, rules=rules_with(tmp_path, forward_to=[]))
    assert sources(store) == []
    receive(store, ct_series(n_slices=2, seed="pacs"))
    close(store, rules=rules_with(tmp_path, forward_to=["pacs"]))
    assert {row.peer for row in sources(store)} == {"pacs"}


def test_a_rule_that_forwards_changes_no_result(tmp_path: Path) -> None:
    assert rules_with(tmp_path, forward_to=["pacs"]).digest == rules_with(tmp_path).digest
    with pytest.raises(RulesError, match=r"series\.0\.forward_to: no peer is named 'nowhere'"):
        rules_with(tmp_path, forward_to=["nowhere"])


def test_retention_waits_for_what_is_forwarded_and_the_delivery_stays_known(store: Store, tmp_path: Path) -> None:
    receive(store, ct_series(n_slices=2))
    close(store, rules=rules_with(tmp_path, action="skip", reason="never"))
    (source,) = store.retention.survey()
    assert source.has_open_deliveries
    assert not store.retention.delete_sources(source, LATER)
    for delivery in store.deliveries.claim_due("w", LATER, 60):
        store.deliveries.succeed(delivery.id, "w", LATER)
    assert store.retention.survey(["archive"])[0].is_uncommitted
    assert store.retention.delete_sources(source, LATER)
    assert [row.state for row in sources(store)] == [JobState.SUCCEEDED] * 2
    with pytest.raises(NotSendableError, match="its object was deleted"):
        store.deliveries.send_again(sources(store)[0].id, by="op", now=LATER)


@pytest.fixture
def archive(tmp_path: Path) -> DimsePeerServer:  # type: ignore[misc]
    with start_storescp(tmp_path, ae_title="ARCHIVE") as server:
        yield server  # type: ignore[misc]


@pytest.mark.peers
def test_forwarded_instances_arrive_byte_for_byte(store: Store, archive: DimsePeerServer) -> None:
    series = ct_series(n_slices=20)
    receive(store, series)
    close(store)
    peer = DimsePeer(name="archive", ae_title="ARCHIVE", host=archive.host, port=archive.port, forward_sources=True)
    send = partial(deliver, calling_ae_title="NODE", timeout_s=30.0)
    outbox = Outbox(store, peer, send, RetryPolicy(3, 1.0), 60.0, "w", lambda: LATER)
    assert outbox.deliver_due(must_stop=lambda: False) == 20
    arrived = {str(dcmread(path).SOPInstanceUID): dataset_bytes(path.read_bytes()) for path in archive.folder.iterdir()}
    assert arrived == {str(one.dataset().SOPInstanceUID): dataset_bytes(one.part10) for one in series}

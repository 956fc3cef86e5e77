"""Instances that come into a store as if a sender had stored them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pydicom.dataset import Dataset

from dicom_node.pipeline.completeness import Patience
from dicom_node.pipeline.counting import CountInstances, PeerCounts
from dicom_node.pipeline.evidence import Witnesses
from dicom_node.pipeline.intake import RoutingPolicy, complete_quiet_series
from dicom_node.pipeline.rules import Rules, load_rules
from dicom_node.settings import DicomwebPeer, DimsePeer
from dicom_node.store import Arrival, Kept, NewResult, Outcome, Store
from tests.factories import EncodedInstance, ct_series, mr_series

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


def receive(
    store: Store,
    instances: Sequence[EncodedInstance],
    *,
    at: datetime = NOON,
    calling_ae_title: str = "CT1",
    association_id: str = "1",
    expected: Kept = Kept.STORED,
) -> None:
    """Keep instances; each must meet the same answer."""
    for instance in instances:
        receive_bytes(
            store,
            dataset_bytes(instance.part10),
            instance.dataset(),
            at=at,
            calling_ae_title=calling_ae_title,
            association_id=association_id,
            expected=expected,
        )


def receive_bytes(
    store: Store,
    encoded_dataset: bytes,
    announced_as: Dataset,
    *,
    at: datetime = NOON,
    calling_ae_title: str = "CT1",
    association_id: str = "1",
    expected: Kept = Kept.STORED,
) -> None:
    """Keep bytes that may be no dataset, announced with another one's UIDs and transfer syntax."""
    announced = {
        "sop_class_uid": str(announced_as.SOPClassUID),
        "sop_instance_uid": str(announced_as.SOPInstanceUID),
        "transfer_syntax_uid": str(announced_as.file_meta.TransferSyntaxUID),
    }
    spool = store.objects.spool(**announced)
    spool.write(encoded_dataset)
    arrival = Arrival(
        **announced,
        calling_ae_title=calling_ae_title,
        association_id=association_id,
        received_at=at,
    )
    assert store.inbox.keep(spool, arrival) is expected


def complete_quiet(
    store: Store,
    rules: Rules,
    *,
    pipeline_digest: str,
    quiet_s: float,
    now: datetime,
    max_wait_s: float | None = None,
    deliver_to: tuple[str, ...] = ("pacs",),
) -> int:
    """Close quiet series as the scheduler does, with no peer to ask; without waiting longer than ``quiet_s``."""
    patience = Patience(quiet_s, quiet_s if max_wait_s is None else max_wait_s)
    policy = RoutingPolicy(rules, deliver_to, pipeline_digest)
    return complete_quiet_series(store, policy, witnesses(store, quiet_s), patience=patience, now=now)


def witnesses(
    store: Store,
    quiet_s: float,
    *,
    peers: Sequence[DimsePeer | DicomwebPeer] = (),
    ask: CountInstances = lambda *_: None,
) -> Witnesses:
    """Those who may know whether a series is complete."""
    return Witnesses(store, PeerCounts(peers, ask), quiet_s=quiet_s)


def leave_results(store: Store, *peers: str, n_results: int = 2) -> list[EncodedInstance]:
    """Finish a job that leaves results; they are instances of a series that nobody sent."""
    later = NOON + timedelta(seconds=60)
    receive(store, ct_series(n_slices=2))
    complete_quiet(store, load_rules(None, peer_names=()), pipeline_digest="d", quiet_s=1, now=later)
    job = store.jobs.claim("worker", later, 60, pipeline_digest="d")
    assert job is not None
    results = list(mr_series(n_slices=n_results))
    headers = [result.dataset() for result in results]
    outcome = Outcome(
        results=tuple(
            NewResult(
                kind="seg",
                stack_number=1,
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                transfer_syntax_uid=ds.file_meta.TransferSyntaxUID,
                encoded_dataset=dataset_bytes(result.part10),
            )
            for ds, result in zip(headers, results, strict=True)
        ),
        deliver_to=peers,
    )
    store.jobs.succeed(job.id, "worker", outcome, later)
    return results


def dataset_bytes(part10: bytes) -> bytes:
    """What follows preamble, prefix and file meta information (PS3.10 7.1); its length is in its first element."""
    return part10[144 + int.from_bytes(part10[140:144], "little") :]

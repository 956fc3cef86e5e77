"""Instances that come into a store as if a sender had stored them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dicom_node.store import Arrival, Kept, Store
from tests.factories import EncodedInstance

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


def receive(
    store: Store,
    instances: Sequence[EncodedInstance],
    *,
    at: datetime = NOON,
    calling_ae_title: str = "CT1",
    expected: Kept = Kept.STORED,
) -> None:
    """Keep instances; each must meet the same answer."""
    for instance in instances:
        ds = instance.dataset()
        announced = {
            "sop_class_uid": str(ds.SOPClassUID),
            "sop_instance_uid": str(ds.SOPInstanceUID),
            "transfer_syntax_uid": str(ds.file_meta.TransferSyntaxUID),
        }
        spool = store.objects.spool(**announced)
        spool.write(dataset_bytes(instance.part10))
        arrival = Arrival(
            **announced,
            calling_ae_title=calling_ae_title,
            called_ae_title="NODE",
            association_id="1",
            received_at=at,
        )
        assert store.inbox.keep(spool, arrival) is expected


def dataset_bytes(part10: bytes) -> bytes:
    """What follows preamble, prefix and file meta information (PS3.10 7.1); its length is in its first element."""
    return part10[144 + int.from_bytes(part10[140:144], "little") :]

"""A real store, and series that came into it as from a sender."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.store import Arrival, Kept, Store
from tests.factories import EncodedInstance

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
DATASET_OFFSET = 132  # preamble and prefix, PS3.10 7.1

Receive = Callable[..., None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def receive(store: Store) -> Receive:
    """Function that puts instances into the store, as if they had come by C-STORE at ``at``."""

    def receive(instances: Sequence[EncodedInstance], *, at: datetime = NOON, calling_ae_title: str = "CT1") -> None:
        for instance in instances:
            ds = instance.dataset()
            meta = ds.file_meta
            spool = store.objects.spool(
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                transfer_syntax_uid=meta.TransferSyntaxUID,
            )
            # The group length element (12 bytes) says how much file meta information follows it.
            spool.write(instance.part10[DATASET_OFFSET + 12 + meta.FileMetaInformationGroupLength :])
            arrival = Arrival(
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                transfer_syntax_uid=meta.TransferSyntaxUID,
                calling_ae_title=calling_ae_title,
                called_ae_title="NODE",
                association_id="1",
                received_at=at,
            )
            assert store.inbox.keep(spool, arrival) is Kept.STORED

    return receive

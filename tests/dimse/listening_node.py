"""A started node as tests see it: its port, what is in its index, what lies on its disk."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from dicom_node.dimse import DimseServer
from dicom_node.store import InstanceRow, Store


@dataclass(frozen=True)
class ListeningNode:
    """A started server and its store."""

    server: DimseServer
    store: Store

    @property
    def port(self) -> int:
        return self.server.port

    def instances(self) -> list[InstanceRow]:
        """All instances in the index."""
        return [
            row
            for series in self.store.series.list()
            for row in self.store.series.instances(series.series_instance_uid)
        ]

    def dataset_bytes(self, sop_instance_uid: str) -> bytes:
        """Dataset of an instance as it lies on disk."""
        (digest,) = [row.digest for row in self.instances() if row.sop_instance_uid == sop_instance_uid]
        return self.store.objects.read_dataset_bytes(digest)


class StartNode(Protocol):
    """What the fixture `start_node` gives."""

    def __call__(
        self, name: str = "node", *, min_free_bytes: int = 0, artim_timeout_s: float = 10.0, **settings: Any
    ) -> AbstractContextManager[ListeningNode]: ...

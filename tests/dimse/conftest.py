"""A node that listens on loopback, over a real store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.dimse import DimseServer
from dicom_node.settings import DimseSettings
from tests.dimse.listening_node import ListeningNode, StartNode
from tests.new_store import NewStore

AE_TITLE = "NODE"


@pytest.fixture
def start_node(new_store: NewStore, tmp_path: Path) -> StartNode:
    """Function that starts a node with an empty store of its own; keywords are those of ``DimseSettings``."""

    @contextmanager
    def start(
        name: str = "node", *, min_free_bytes: int = 0, artim_timeout_s: float = 10.0, **settings: Any
    ) -> Iterator[ListeningNode]:
        chosen = DimseSettings(host="127.0.0.1", port=0, **settings)
        with (
            new_store(tmp_path / name, min_free_bytes=min_free_bytes) as store,
            DimseServer(store, chosen, ae_title=AE_TITLE, artim_timeout_s=artim_timeout_s) as server,
        ):
            yield ListeningNode(server, store)

    return start


@pytest.fixture
def node(start_node: StartNode) -> Iterator[ListeningNode]:
    """A node with default settings."""
    with start_node() as started:
        yield started

"""Fixtures of the crash tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.parts import Node
from tests.new_store import NewStore


@pytest.fixture
def node(new_store: NewStore, tmp_path: Path) -> Node:
    """A node over an empty store, nothing of it running."""
    node = Node(tmp_path)
    new_store(tmp_path / "data").close()
    return node

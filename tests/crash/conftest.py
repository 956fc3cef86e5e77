"""Fixtures of the crash tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.parts import Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node over an empty data directory, nothing of it running."""
    return Node(tmp_path)

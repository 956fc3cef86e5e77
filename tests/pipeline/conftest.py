"""A real store for the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.store import Store
from tests.new_store import NewStore


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with new_store(tmp_path / "data") as opened:
        yield opened

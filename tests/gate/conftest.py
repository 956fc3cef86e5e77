"""A store that is open, made from a template: migrating takes longer than most of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.store import Store
from tests.gate.cases import copy_of_template
from tests.new_store import NewStore


@pytest.fixture(scope="session")
def template(new_store: NewStore) -> Path:
    """Data directory to be copied where a test opens the store more than once."""
    return new_store.template


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    with Store.open(copy_of_template(template, tmp_path / "node")) as opened:
        yield opened

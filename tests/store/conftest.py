"""A real store on real files for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "node") as opened:
        yield opened

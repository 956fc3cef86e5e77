"""A real store on real files for each test, and a real PostgreSQL for those that want one."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from dicom_node.store import Store
from tests.new_store import NewStore
from tests.postgresql_server import PostgresqlServer, start_postgresql


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "node") as opened:
        yield opened


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    with start_postgresql() as server:
        yield server


@pytest.fixture
def url(postgresql: PostgresqlServer) -> str:
    """Of an empty database for each test."""
    return postgresql.create(f"test_{uuid4().hex}")

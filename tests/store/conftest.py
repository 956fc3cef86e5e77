"""A real store on real files for each test: once with its index in SQLite, once in a real PostgreSQL.

What uses ``store`` or ``new_store`` runs on both. A test of what only one of them does has ``ONLY_SQLITE``, or takes
the ``url`` of an empty database.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from dicom_node.store import Store
from tests.new_store import NewPostgresqlStore, NewStore, StoreMaker
from tests.postgresql_server import PostgresqlServer, start_postgresql

TEMPLATE = "template_of_stores"


@contextmanager
def store_maker(database: str, request: pytest.FixtureRequest) -> Iterator[StoreMaker]:
    """What `new_store` gives, for fixtures of a wider scope; its stores must be closed when the block ends."""
    if database == "sqlite":
        yield NewStore(request.getfixturevalue("sqlite_template"))
        return
    maker = NewPostgresqlStore(request.getfixturevalue("postgresql"), request.getfixturevalue("postgresql_template"))
    yield maker
    maker.drop()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def database(request: pytest.FixtureRequest) -> str:
    """Kind of database of the index."""
    return str(request.param)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new-store") / "data"
    Store.open(folder).close()
    return folder


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    with start_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgresqlServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    Store.open(tmp_path_factory.mktemp("new-store"), url=postgresql.create(TEMPLATE)).close()
    return TEMPLATE


@pytest.fixture
def new_store(database: str, request: pytest.FixtureRequest) -> Iterator[StoreMaker]:
    """Function that opens an empty store below a folder, with its index in either database."""
    with store_maker(database, request) as maker:
        yield maker


@pytest.fixture
def store(new_store: StoreMaker, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "node") as opened:
        yield opened


@pytest.fixture
def url(postgresql: PostgresqlServer) -> str:
    """Of an empty database for each test."""
    return postgresql.create(f"test_{uuid4().hex}")

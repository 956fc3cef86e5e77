"""The index's database: engine, migrations, and the two kinds of transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from dicom_node.store.errors import DatabaseTooNewError, IndexUnavailableError
from dicom_node.store.schema import HEAD_REVISION
from dicom_node.store.sqlite import create_sqlite_engine

MIGRATIONS = Path(__file__).parent / "migrations"
_WRITER_LOCK = 0x6469636F6D  # any number that no other application takes as its advisory lock


class Database:
    """Transactions on the index.

    Writers are one at a time, on every database: immediate transactions on SQLite, an advisory lock on PostgreSQL.
    So a writer may look before it writes, and group commit rather than parallel writers gives the throughput.
    """

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = create_sqlite_engine(url) if is_sqlite else sa.create_engine(url)
        driver = self._engine.dialect.loaded_dbapi
        self._failures = (sa.exc.OperationalError, driver.OperationalError)  # the latter from a `DriverStatement`
        self._takes_advisory_lock = self.url.get_backend_name() == "postgresql"
        self._reading = self._engine.execution_options(access="read")
        self._writing = self._engine.execution_options(access="write")

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent view of the index."""
        try:
            with self._reading.begin() as connection:
                yield connection
        except self._failures as error:
            raise self._unavailable(error) from error

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction, committed at the end of the block and rolled back by an exception."""
        try:
            with self._writing.begin() as connection:
                if self._takes_advisory_lock:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER_LOCK)))
                yield connection
        except self._failures as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> IndexUnavailableError:
        return IndexUnavailableError(self.url.render_as_string(), str(getattr(error, "orig", error)))

    def migrate(self) -> None:
        """Bring the schema to `HEAD_REVISION`; a schema from a later version is an error."""
        with self.read() as connection:
            if _revision(connection) == HEAD_REVISION:
                return
        with self.write() as connection:
            revision = _revision(connection)  # another process may have been faster
            if revision == HEAD_REVISION:
                return
            from alembic import command  # slow to import, and rarely wanted
            from alembic.config import Config
            from alembic.script import ScriptDirectory

            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            if revision is not None and revision not in known:
                raise DatabaseTooNewError(self.url.render_as_string(), revision, HEAD_REVISION)
            command.upgrade(config, "head")

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()

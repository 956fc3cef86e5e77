"""The index's database: engine, migrations, and the two kinds of transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from dicom_node.errors import NodeError
from dicom_node.store import postgresql, sqlite
from dicom_node.store.errors import DatabaseTooNewError, DatabaseUrlError, IndexUnavailableError
from dicom_node.store.schema import HEAD_REVISION

MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Transactions on the index.

    Writers are one at a time, on every database: immediate transactions on SQLite, an advisory lock on PostgreSQL.
    So a writer may look before it writes, and group commit rather than parallel writers gives the throughput.

    Raises
    ------
    DatabaseUrlError
        The URL is none, names another kind of database, or a driver that is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url = sa.make_url(url)
        except sa.exc.ArgumentError as error:  # its text may hold a password
            raise DatabaseUrlError("node.database_url", "is no database URL") from error
        self._is_postgresql = self.url.get_backend_name() == "postgresql"
        self._engine = self._create_engine()
        self._reading = postgresql.reading(self._engine) if self._is_postgresql else sqlite.reading(self._engine)

    def _create_engine(self) -> sa.Engine:
        create = {"sqlite": sqlite.create_sqlite_engine, "postgresql": postgresql.create_postgresql_engine}.get(
            self.url.get_backend_name()
        )
        shown = self.url.render_as_string()
        if create is None:
            raise DatabaseUrlError(shown, "is neither SQLite nor PostgreSQL")
        try:
            return create(self.url)
        except (ImportError, sa.exc.NoSuchModuleError) as error:
            raise DatabaseUrlError(shown, f"its driver cannot be loaded ({error})") from error

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent view of the index."""
        with self._transaction(self._reading) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction, committed at the end of the block and rolled back by an exception."""
        with self._transaction(self._engine) as connection:
            if self._is_postgresql:
                postgresql.take_writer_lock(connection)
            yield connection

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        try:
            connection = engine.connect()
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:  # whatever the reason, nothing was asked yet
            raise self._unavailable(error) from error
        with connection:
            try:
                with connection.begin():
                    yield connection
            except Exception as error:
                is_outage = postgresql.is_outage if self._is_postgresql else sqlite.is_outage
                if isinstance(error, NodeError) or not is_outage(error):
                    raise
                raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> IndexUnavailableError:
        return IndexUnavailableError(self.url.render_as_string(), postgresql.reason(error))

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

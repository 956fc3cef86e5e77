"""The index's database: engine, migrations, and the two kinds of transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from dicom_node.errors import NodeError
from dicom_node.store import postgresql, sqlite
from dicom_node.store.clock import StoreClock
from dicom_node.store.errors import (
    DatabaseTooNewError,
    DatabaseUrlError,
    IndexUnavailableError,
    UnfinishedMoveError,
)
from dicom_node.store.schema import HEAD_REVISION

UNFINISHED_MOVE = "unfinished-move"  # in place of a revision, while an index is being copied here (moving.py)
MIGRATIONS = Path(__file__).parent / "migrations"


class _Kind(Protocol):
    """What a module of this folder says of one kind of database."""

    def create_engine(self, url: sa.URL, *, is_patient: bool) -> sa.Engine:
        """Engine for writers; one that is not patient gives up on a silent server after a few seconds."""

    def try_connections(self, engine: sa.Engine, clock: StoreClock) -> None:
        """Have connections to a server tried before they are used, and the clock set by its answer."""

    def become_reader(self, connection: sa.Connection) -> None:
        """Have a transaction that has just begun, and only reads, see one moment."""

    def become_writer(self, connection: sa.Connection, until: float | None) -> None:
        """Wait, in a transaction that has just begun, until no other writes, or until a moment (`time.monotonic`)."""

    def become_claimer(self, connection: sa.Connection) -> None:
        """Be able, in a transaction that has just begun, to lock rows and change them; see `Database.claim`."""

    def take_turn(self, url: sa.URL, engine: sa.Engine, name: str) -> Callable[[], None] | None:
        """Take what only one process may have at a time; return what gives it back, or None if another has it."""

    def migrating(self, url: sa.URL, engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
        """Give a write transaction in which tables may be made anew; their references are checked at its end."""

    def check_writable(self, url: sa.URL, engine: sa.Engine, timeout_s: float) -> None:
        """Raise what the driver raises unless a write transaction can begin within ``timeout_s``."""

    def is_outage(self, error: Exception) -> bool:
        """Whether it was not, or not at this moment, possible to ask; what is no outage is a defect of ours."""

    def reason(self, error: Exception) -> str:
        """What it or its driver said, in one line."""


_KINDS: Mapping[str, _Kind] = {"sqlite": sqlite, "postgresql": postgresql}


class Database:
    """Transactions on the index.

    Writers are one at a time, on every database: immediate transactions on SQLite, an advisory lock on PostgreSQL.
    So a writer may look before it writes, and group commit rather than parallel writers gives the throughput.
    Claims and leases are the exception, see `claim`.

    Raises
    ------
    DatabaseUrlError
        The URL is none, names another kind of database, or a driver that is not installed.
    """

    def __init__(self, url: str) -> None:
        self.clock = StoreClock()
        try:
            self.url = sa.make_url(url)
        except sa.exc.ArgumentError:  # its text may hold a password
            raise DatabaseUrlError("node.database_url", "is no database URL") from None
        kind = _KINDS.get(self.url.get_backend_name())
        if kind is None:
            raise DatabaseUrlError(self.url.render_as_string(), "is neither SQLite nor PostgreSQL")
        try:
            self._engine = kind.create_engine(self.url, is_patient=True)
            self._impatient = kind.create_engine(self.url, is_patient=False)
        except (ImportError, sa.exc.NoSuchModuleError) as error:
            raise DatabaseUrlError(self.url.render_as_string(), f"its driver cannot be loaded ({error})") from error
        for engine in (self._engine, self._impatient):
            kind.try_connections(engine, self.clock)
        self._kind = kind

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent view of the index."""
        with self._transaction(self._engine, is_reader=True) as connection:
            self._kind.become_reader(connection)
            yield connection

    @contextmanager
    def write(self, *, until: float | None = None) -> Iterator[sa.Connection]:
        """One transaction, committed at the end of the block and rolled back by an exception.

        Parameters
        ----------
        until
            Moment of `time.monotonic` at which to give up waiting for another writer, for callers whose peer waits.
            None waits as long as is good for work that nobody waits for.
        """
        with self._transaction(self._engine if until is None else self._impatient, until) as connection:
            self._kind.become_writer(connection, until)
            yield connection

    @contextmanager
    def claim(self) -> Iterator[sa.Connection]:
        """One transaction in which a worker takes rows, or renews its lease on them, next to other writers.

        On PostgreSQL it does not wait for the writers' lock, so whoever uses it selects what it takes ``FOR UPDATE
        SKIP LOCKED`` and changes only that; a writer that moves rows which may be claimed meanwhile selects them
        ``FOR UPDATE``. On SQLite, which has no locks on rows, it is the same as `write` (docs/decisions/0055).
        """
        with self._transaction(self._engine) as connection:
            self._kind.become_claimer(connection)
            yield connection

    @contextmanager
    def turn(self, name: str) -> Iterator[bool]:
        """Whether this process is the only one with ``name`` until the end of the block, or another has it.

        For what must not happen twice outside the index, and has no row to claim. It ends with the process, and with
        the connection to a server: then another may begin while this one still works.
        """
        try:
            give_back = self._kind.take_turn(self.url, self._engine, name)
        except Exception as error:
            if not self._kind.is_outage(error):
                raise
            raise self._unavailable(error) from error
        try:
            yield give_back is not None
        finally:
            if give_back is not None:
                give_back()

    def check_writable(self, timeout_s: float) -> None:
        """Raise `IndexUnavailableError` unless a write transaction can begin within ``timeout_s``; writes nothing."""
        try:
            self._kind.check_writable(self.url, self._engine, timeout_s)
        except Exception as error:
            if not self._kind.is_outage(error):
                raise
            raise self._unavailable(error) from error

    @contextmanager
    def _transaction(
        self, engine: sa.Engine, until: float | None = None, *, is_reader: bool = False
    ) -> Iterator[sa.Connection]:
        try:
            connection = engine.connect()
            connection.info.update(until=until, is_reader=is_reader)
        except (sa.exc.SQLAlchemyError, OSError) as error:  # whatever the reason, nothing was asked yet
            raise self._unavailable(error) from error
        is_committing = False
        with connection:
            try:
                with connection.begin():
                    yield connection
                    is_committing = not is_reader
            except Exception as error:
                if isinstance(error, NodeError) or not self._kind.is_outage(error):
                    raise
                raise self._unavailable(error, is_uncertain=is_committing) from error

    def _unavailable(self, error: Exception, *, is_uncertain: bool = False) -> IndexUnavailableError:
        return IndexUnavailableError(self.url.render_as_string(), self._kind.reason(error), is_uncertain)

    def unavailable(self, reason: str) -> IndexUnavailableError:
        """Error that names this database."""
        return IndexUnavailableError(self.url.render_as_string(), reason)

    def migrate(self) -> None:
        """Bring the schema to `HEAD_REVISION`; a schema from a later version is an error."""
        with self.read() as connection:
            if _revision(connection) == HEAD_REVISION:
                return
        with self._migrating() as connection:
            revision = _revision(connection)  # another process may have been faster
            if revision == HEAD_REVISION:
                return
            from alembic import command  # slow to import, and rarely wanted
            from alembic.config import Config
            from alembic.script import ScriptDirectory

            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            if revision == UNFINISHED_MOVE:
                raise UnfinishedMoveError(self.url.render_as_string())
            if revision is not None and revision not in known:
                raise DatabaseTooNewError(self.url.render_as_string(), revision, HEAD_REVISION)
            command.upgrade(config, "head")

    def has_unfinished_move(self) -> bool:
        """Whether an index was partly copied here."""
        with self.read() as connection:
            return _revision(connection) == UNFINISHED_MOVE

    @contextmanager
    def _migrating(self) -> Iterator[sa.Connection]:
        is_committing = False
        try:
            with self._kind.migrating(self.url, self._engine) as connection:
                yield connection
                is_committing = True
        except Exception as error:
            if isinstance(error, NodeError) or not self._kind.is_outage(error):
                raise
            raise self._unavailable(error, is_uncertain=is_committing) from error

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        self._impatient.dispose()


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()

"""All that is special to SQLite: write-ahead log, full synchronisation, immediate write transactions."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection

from dicom_node.store.clock import StoreClock

INDEX_FILE = "index.sqlite"  # below the data directory
BUSY_TIMEOUT_S = 60.0  # another process may hold the write lock for a long transaction
# Waiting for another writer until a given moment: SQLite's own waits grow to 100 ms, which would be most of a commit.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.0002, 0.002
_BEGIN = {"read": "BEGIN DEFERRED", "write": "BEGIN IMMEDIATE"}


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of a database file."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def create_engine(url: sa.URL, *, is_patient: bool) -> sa.Engine:
    """Create an engine whose transactions begin as write transactions; `_begin` decides how long they wait."""
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=8, max_overflow=64)
    event.listen(engine, "connect", _prepare_connection)
    if not is_patient:
        event.listen(engine, "connect", _do_not_wait)
    event.listen(engine, "begin", _begin)
    return engine


def try_connections(_engine: sa.Engine, _clock: StoreClock) -> None:
    """Nothing is left to do: there is no server, and whoever opens the file is on this machine."""


def become_reader(_connection: sa.Connection) -> None:
    """Nothing is left to do: the transaction has begun as a reader's."""


def become_writer(_connection: sa.Connection, _until: float | None) -> None:
    """Nothing is left to do: the transaction has begun as a writer's."""


def become_claimer(_connection: sa.Connection) -> None:
    """Nothing is left to do: the transaction has begun as a writer's, and no other has."""


def take_turn(url: sa.URL, _engine: sa.Engine, name: str) -> Callable[[], None] | None:
    """Lock a file in a folder next to the index."""
    folder = Path(str(url.database)).parent / "turns"
    folder.mkdir(mode=0o750, exist_ok=True)
    fd = os.open(folder / f"{zlib.crc32(name.encode()):08x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return partial(os.close, fd)


@contextmanager
def migrating(url: sa.URL, _engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a write transaction without foreign keys, which SQLite wants for making a table anew.

    See sqlite.org/lang_altertable.html, 7. The keys cannot be switched off within a transaction, so the connection is
    one of its own; what they would have said is checked before the end.
    """
    engine = create_engine(url, is_patient=True)
    event.listen(engine, "connect", _without_foreign_keys)
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
            broken = connection.execute(sa.text("PRAGMA foreign_key_check")).all()
            if broken:
                raise sa.exc.IntegrityError(f"{len(broken)} references lead nowhere", None, ValueError(str(broken[0])))
    finally:
        engine.dispose()


def _without_foreign_keys(connection: DBAPIConnection, _record: object) -> None:
    connection.cursor().execute("PRAGMA foreign_keys = OFF")


def check_writable(url: sa.URL, _engine: sa.Engine, timeout_s: float) -> None:
    """Begin a write transaction within ``timeout_s``, on a connection of its own, and end it."""
    with closing(sqlite3.connect(str(url.database), timeout=timeout_s, isolation_level=None)) as connection:
        connection.execute(_BEGIN["write"])
        connection.execute("ROLLBACK")


def is_outage(error: Exception) -> bool:
    """Whether the file could not be used, or another writer held it for too long."""
    return isinstance(error, (sa.exc.OperationalError, sqlite3.OperationalError))


def reason(error: Exception) -> str:
    """What SQLite said."""
    return str(getattr(error, "orig", error))


def _prepare_connection(connection: DBAPIConnection, _record: object) -> None:
    # The driver must not begin transactions by itself: a deferred one that starts to write can fail with
    # SQLITE_BUSY at once, whatever the busy timeout (sqlite.org/lang_transaction.html, 2.2).
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # the log is synced at each commit; NORMAL may lose acknowledged rows
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA case_sensitive_like = ON")  # as PostgreSQL
    cursor.execute("PRAGMA cache_size = -16384")  # KiB
    cursor.close()


def _do_not_wait(connection: DBAPIConnection, _record: object) -> None:
    connection.cursor().execute("PRAGMA busy_timeout = 0")


def _begin(connection: sa.Connection) -> None:
    """Begin by the driver, as in `statements`; wait for another writer until the moment that the caller has set."""
    begin = _BEGIN["read" if connection.info.get("is_reader") else "write"]
    cursor = connection.connection.cursor()
    until: float | None = connection.info.get("until")
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            cursor.execute(begin)
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            left_s = 0.0 if until is None or not is_busy else until - time.monotonic()
            if left_s <= 0:
                raise
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            return

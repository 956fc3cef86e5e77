"""All that is special to PostgreSQL: driver, one writer at a time, claims, reads of one moment, what an outage is."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from dicom_node.store.clock import StoreClock

DRIVER: Final = "psycopg"  # of the extra `postgresql`; pg8000 works if the URL names it (docs/decisions/0055)
# Connections of one process; PostgreSQL comes with 100 for all.
POOL_SIZE, MAX_OVERFLOW = 8, 16
ANSWER_TIMEOUT_S = 60.0  # as for SQLite; another process may hold the writers' lock for a long transaction
# For callers whose peer waits: to try a connection and to make a new one take two of these at most.
IMPATIENT_TIMEOUT_S = 2.4
# What the server is asked to do about a client that has fallen silent, so that a host that is cut off does not hold the
# writers' lock, and with it all others: to look for it after 10 s (TCP, or Linux would wait two hours), and to end a
# write transaction whose client is there but asks nothing for half a minute.
_SESSION = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
IDLE_WRITER_S = 30.0
MOST_QUESTIONS = 4  # for the time, until an answer comes fast enough to set a clock by
LOCK_TIMEOUT_S = 2.0  # less, so that a wait for another writer does not look like a silent server
_WRITER_LOCK = 0x6469636F6D  # any number that no other application takes as its advisory lock
_TURNS = 0x6469636F  # the same for locks with a second number; they are others than those with one
# Connection lost, thrown out as an idle writer, transaction to be repeated, resources exhausted, lock not available,
# stopped by its operator, system error (PostgreSQL 17, appendix A).
_OUTAGES = ("08", "25P03", "40", "53", "55P03", "57", "58")


def create_engine(url: sa.URL, *, is_patient: bool) -> sa.Engine:
    """Create an engine, for psycopg with a limit for each answer."""
    if "+" not in url.drivername:
        url = url.set(drivername=f"{url.drivername}+{DRIVER}")
    # A broken connection is replaced, or the caller reports it; the pool need not log it too.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    timeout_s = ANSWER_TIMEOUT_S if is_patient else IMPATIENT_TIMEOUT_S
    timeout = {"timeout": timeout_s} if url.get_driver_name() == "pg8000" else {}
    engine = sa.create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        connect_args=timeout,
        # psycopg's dialect says how many rows an INSERT ... SELECT has made only if it is asked to.
        execution_options={"preserve_rowcount": True},
    )
    if url.get_driver_name() == DRIVER:
        event.listen(engine, "do_connect", partial(_connect, timeout_s))
    event.listen(engine, "connect", _begin_session)
    event.listen(engine, "handle_error", _name_lost_connection)
    return engine


def try_connections(engine: sa.Engine, clock: StoreClock) -> None:
    """Have each connection tried before it is used, and the clock set by its answer."""
    event.listen(engine, "checkout", partial(_try_connection, clock))


def _connect(
    timeout_s: float, _dialect: sa.Dialect, _record: object, arguments: Sequence[Any], options: Mapping[str, Any]
) -> DBAPIConnection:
    from dicom_node.store.bounded_psycopg import connect

    return cast("DBAPIConnection", connect(*arguments, answer_timeout_s=timeout_s, **options))


def _begin_session(connection: DBAPIConnection, _record: object) -> None:
    """Have the server notice when this client is cut off."""
    cursor = connection.cursor()
    values = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SESSION.items())
    cursor.execute(f"SELECT {values}")
    cursor.close()
    connection.commit()


def _try_connection(
    clock: StoreClock, connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object
) -> None:
    """Ask a connection for the time, and have one that was used before replaced if it does not answer.

    SQLAlchemy's own ``pool_pre_ping`` lets through the `OSError` that pg8000 raises for a connection that was reset,
    as all are after the server's machine has started again.
    """
    try:
        for _ in range(MOST_QUESTIONS):
            asked_s = clock.monotonic()
            clock.note(_server_time(connection), asked_s=asked_s, answered_s=clock.monotonic())
            if clock.is_exact:
                break
    except Exception as error:
        if "is_used" in record.info:
            raise sa.exc.InvalidatePoolError from error
        # What is wrong with a new one, its first statement will say.
    record.info["is_used"] = True


def _server_time(connection: DBAPIConnection) -> datetime:
    """The server's clock, in one exchange: outside of a transaction, which the caller is going to begin."""
    connection.autocommit = True
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
        cursor.close()
    finally:
        connection.autocommit = False
    return cast("datetime", row[0]) if row else datetime.now(UTC)


def _name_lost_connection(context: ExceptionContext) -> sa.exc.OperationalError | None:
    """Make a disconnect of an `OSError`, which pg8000 raises where its `InterfaceError` is expected."""
    error = context.original_exception
    if not isinstance(error, OSError):
        return None
    context.is_disconnect = True
    return sa.exc.OperationalError(context.statement, None, error)


def become_reader(connection: sa.Connection) -> None:
    """See the index as of the next statement, and change nothing."""
    # Set for the transaction, not for the connection: to set it back afterwards could fail when all has been read.
    connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


def become_writer(connection: sa.Connection, until: float | None) -> None:
    """Wait for all other writers; the lock ends with the transaction, which sees what they have committed.

    With a moment to give up at, it also gives up after `LOCK_TIMEOUT_S`: the caller may try again.
    """
    idle = sa.func.set_config("idle_in_transaction_session_timeout", str(round(1000 * IDLE_WRITER_S)), True)
    lock = sa.func.pg_advisory_xact_lock(_WRITER_LOCK)
    if until is None:
        connection.execute(sa.select(idle, lock))
        return
    timeout_ms = round(1000 * min(max(until - time.monotonic(), 0.001), LOCK_TIMEOUT_S))
    connection.execute(sa.select(idle, sa.func.set_config("lock_timeout", str(timeout_ms), True), lock))


def become_claimer(_connection: sa.Connection) -> None:
    """Nothing is left to do: rows are locked one by one, by the statements that take them."""


def take_turn(_url: sa.URL, engine: sa.Engine, name: str) -> Callable[[], None] | None:
    """Take an advisory lock, for as long as a transaction of its own."""
    connection = engine.connect()
    try:
        lock = sa.func.pg_try_advisory_xact_lock(_TURNS, zlib.crc32(name.encode()) - 2**31)
        is_ours = connection.execute(sa.select(lock)).scalar_one()
    except BaseException:
        connection.close()
        raise
    if is_ours:
        return connection.close
    connection.close()
    return None


@contextmanager
def migrating(_url: sa.URL, engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a write transaction, as for any other writer."""
    with engine.connect() as connection, connection.begin():
        become_writer(connection, None)
        yield connection


def check_writable(_url: sa.URL, engine: sa.Engine, timeout_s: float) -> None:
    """Become the writer within ``timeout_s``, and end the transaction."""
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text(f"SET LOCAL lock_timeout = {round(timeout_s * 1000)}"))
        become_writer(connection, None)
        transaction.rollback()


def is_outage(error: Exception) -> bool:
    """Whether the server could not be asked, or could not do it now."""
    if isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError, ConnectionError, TimeoutError)):
        return True
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if type(cause).__name__ in ("OperationalError", "InterfaceError"):  # names that PEP 249 gives them
        return True
    return _field(cause, "C", "sqlstate").startswith(_OUTAGES)


def reason(error: Exception) -> str:
    """What the server or its driver said, in one line."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    said = _field(cause, "M", "message") or str(cause) or type(cause).__name__
    return said.splitlines()[0]


def _field(error: object, key: str, attribute: str) -> str:
    """A field of the server's answer; pg8000 gives all of them as a mapping by their protocol letters."""
    for argument in getattr(error, "args", ()):
        if isinstance(argument, dict) and key in argument:
            return str(argument[key])
    return str(getattr(error, attribute, None) or "")

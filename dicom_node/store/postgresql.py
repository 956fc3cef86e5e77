"""All that is special to PostgreSQL: driver, one writer at a time, claims, reads of one moment, what an outage is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

DRIVER: Final = "psycopg"  # of the extra `postgresql`; pg8000 works if the URL names it (docs/decisions/0055)
# Connections of one process; PostgreSQL comes with 100 for all.
POOL_SIZE, MAX_OVERFLOW = 8, 16
ANSWER_TIMEOUT_S = 60.0  # as for SQLite; another process may hold the writers' lock for a long transaction
# For callers whose peer waits: to try a connection and to make a new one take two of these at most.
IMPATIENT_TIMEOUT_S = 2.4
LOCK_TIMEOUT_S = 2.0  # less, so that a wait for another writer does not look like a silent server
_WRITER_LOCK = 0x6469636F6D  # any number that no other application takes as its advisory lock
# Connection lost, transaction to be repeated, resources exhausted, lock not available, stopped by its operator, system
# error (PostgreSQL 17, appendix A).
_OUTAGES = ("08", "40", "53", "55P03", "57", "58")


def create_engine(url: sa.URL, *, is_patient: bool) -> sa.Engine:
    """Create an engine that tries each connection before it is used again."""
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
    event.listen(engine, "checkout", partial(_try_connection, engine.dialect))
    event.listen(engine, "handle_error", _name_lost_connection)
    return engine


def _connect(
    timeout_s: float, _dialect: sa.Dialect, _record: object, arguments: Sequence[Any], options: Mapping[str, Any]
) -> DBAPIConnection:
    from dicom_node.store.bounded_psycopg import connect

    return cast("DBAPIConnection", connect(*arguments, answer_timeout_s=timeout_s, **options))


def _try_connection(
    dialect: sa.Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object
) -> None:
    """Have a connection that was used before replaced if it does not answer.

    SQLAlchemy's own ``pool_pre_ping`` lets through the `OSError` that pg8000 raises for a connection that was reset,
    as all are after the server's machine has started again.
    """
    if "is_used" in record.info:
        try:
            dialect.do_ping(connection)
        except Exception as error:
            raise sa.exc.InvalidatePoolError from error
    record.info["is_used"] = True


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
    lock = sa.func.pg_advisory_xact_lock(_WRITER_LOCK)
    if until is None:
        connection.execute(sa.select(lock))
        return
    timeout_ms = round(1000 * min(max(until - time.monotonic(), 0.001), LOCK_TIMEOUT_S))
    connection.execute(sa.select(sa.func.set_config("lock_timeout", str(timeout_ms), True), lock))


def become_claimer(_connection: sa.Connection) -> None:
    """Nothing is left to do: rows are locked one by one, by the statements that take them."""


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

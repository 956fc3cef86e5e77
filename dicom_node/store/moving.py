"""Move the index from one database to another: SQLite to PostgreSQL, and back.

Tables are copied one after the other, in the order of their references, a batch of rows for each transaction. Which row
was the last is written in that transaction, so an interrupted move continues where it was. Until the end, when both
sides have the same rows by number and digest, the new database says that it is unfinished and no node opens it.
The old database is only read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import UNFINISHED_MOVE, Database
from dicom_node.store.errors import IndexDiffersError, MoveTargetError
from dicom_node.store.locks import hold_alone
from dicom_node.store.permissions import make_private_file
from dicom_node.store.schema import HEAD_REVISION, metadata
from dicom_node.store.sqlite import INDEX_FILE, sqlite_url

BATCH_ROWS = 2000
_DIGEST_MODULUS = 2**256

progress = sa.Table(
    "index_move",
    sa.MetaData(),
    sa.Column("table_name", sa.String(64), primary_key=True),
    sa.Column("last_key", sa.Text),  # JSON, of the row that was copied last; null before the first
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    sa.Column("is_complete", sa.Boolean, nullable=False),
)
_version = sa.table("alembic_version", sa.column("version_num"))
Report = Callable[[str, int], None]
"""Called with the name of a table and how many of its rows are in the new database."""


@dataclass(frozen=True, slots=True)
class TableSum:
    """Number of rows of a table, and a digest of them that does not depend on their order."""

    n_rows: int
    digest: str


def move_index(
    data_dir: Path, source_url: str, target_url: str, *, start_again: bool = False, report: Report = lambda *_: None
) -> dict[str, TableSum]:
    """Copy the index, compare both sides, and let the new database be used.

    Call it again with the same URLs to continue after an interruption.

    Parameters
    ----------
    data_dir
        Of the node, which must not run.
    start_again
        Empty a database to which a move has not finished, and begin from its first row.

    Returns
    -------
    dict
        Rows and digest by table, alike on both sides.

    Raises
    ------
    DataDirInUseError
        Some part of the node runs, or a command that has the store open.
    MoveTargetError
        The new database holds an index already, or is the old one.
    IndexDiffersError
        The two sides differ: the old one was changed after its rows were copied.
    """
    with hold_alone(data_dir), opened_database(source_url) as source, opened_database(target_url) as target:
        if target.url.get_backend_name() == "sqlite" and target.url.database:
            make_private_file(Path(target.url.database))
        if source.url == target.url:
            raise MoveTargetError(target.url.render_as_string(), "is the database that the index is in")
        source.migrate()
        _prepare(target, start_again=start_again)
        for table in metadata.sorted_tables:
            _copy(source, target, table, report)
        sums = compare(source, target)
        _finish(target)
    return sums


def sqlite_index(data_dir: Path) -> str:
    """Return the URL of the index that a node has without ``node.database_url``."""
    return sqlite_url(data_dir / INDEX_FILE)


def compare(source: Database, target: Database) -> dict[str, TableSum]:
    """Return the sums of all tables, or raise `IndexDiffersError` at the first that is not the same on both sides."""
    sums = {}
    for table in metadata.sorted_tables:
        here, there = (_sum_of(database, table) for database in (source, target))
        if here != there:
            raise IndexDiffersError(target.url.render_as_string(), table.name, here.n_rows, there.n_rows)
        sums[table.name] = here
    return sums


@contextmanager
def opened_database(url: str) -> Iterator[Database]:
    """Open the database of a URL for the time of the block."""
    database = Database(url)
    try:
        yield database
    finally:
        database.dispose()


def _prepare(target: Database, *, start_again: bool) -> None:
    """Make an empty database the target of a move, or check that it is the unfinished one."""
    if not target.has_unfinished_move():
        target.migrate()
    with target.write() as connection:
        if connection.execute(sa.select(_version.c.version_num)).scalar_one() != UNFINISHED_MOVE:
            for table in metadata.sorted_tables:
                if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
                    raise MoveTargetError(target.url.render_as_string(), "holds an index already")
            progress.create(connection)
            connection.execute(sa.update(_version).values(version_num=UNFINISHED_MOVE))
        elif start_again:
            _empty(connection)


def _empty(connection: sa.Connection) -> None:
    """Delete all rows of an unfinished copy, also those of tables whose triggers refuse that."""
    tables = [*reversed(metadata.sorted_tables), progress]
    if connection.dialect.name == "postgresql":  # triggers on rows do not hear of TRUNCATE
        connection.execute(sa.text(f"TRUNCATE {', '.join(table.name for table in tables)}"))
        return
    triggers = connection.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
    for name, _ in triggers:
        connection.execute(sa.text(f"DROP TRIGGER {name}"))
    for table in tables:
        connection.execute(sa.delete(table))
    for _, statement in triggers:
        connection.exec_driver_sql(statement)


def _copy(source: Database, target: Database, table: sa.Table, report: Report) -> None:
    key = list(table.primary_key.columns)
    last, n_rows, is_complete = _progress_of(target, table)
    while not is_complete:
        batch = sa.select(table).order_by(*key).limit(BATCH_ROWS)
        if last is not None:
            batch = batch.where(sa.tuple_(*key) > sa.tuple_(*map(sa.literal, last)))
        with source.read() as connection:
            rows = [row._asdict() for row in connection.execute(batch)]
        if rows:
            last = [rows[-1][column.name] for column in key]
        n_rows, is_complete = n_rows + len(rows), len(rows) < BATCH_ROWS
        with target.write() as connection:
            if rows:
                # With RETURNING, SQLAlchemy sends many rows in one statement, whatever the driver makes of a list.
                connection.execute(sa.insert(table).returning(key[0]), rows)
            connection.execute(
                sa.update(progress)
                .where(progress.c.table_name == table.name)
                .values(last_key=None if last is None else json.dumps(last), n_rows=n_rows, is_complete=is_complete)
            )
        report(table.name, n_rows)


def _progress_of(target: Database, table: sa.Table) -> tuple[list[Any] | None, int, bool]:
    """Return key of the last row, number of rows, and whether all are there."""
    with target.write() as connection:
        row = connection.execute(sa.select(progress).where(progress.c.table_name == table.name)).one_or_none()
        if row is None:
            values = {"table_name": table.name, "last_key": None, "n_rows": 0, "is_complete": False}
            connection.execute(sa.insert(progress).values(values))
            return None, 0, False
        return None if row.last_key is None else json.loads(row.last_key), row.n_rows, row.is_complete


def _sum_of(database: Database, table: sa.Table) -> TableSum:
    n_rows, total = 0, 0
    with database.read() as connection:
        rows = connection.execution_options(yield_per=BATCH_ROWS).execute(sa.select(table))
        for row in rows:
            total += int.from_bytes(hashlib.sha256(_canonical(row)).digest(), "big")
            n_rows += 1
    return TableSum(n_rows, f"{total % _DIGEST_MODULUS:064x}")


def _canonical(row: Sequence[Any]) -> bytes:
    """Return the values of a row in a form that does not depend on the database."""
    return json.dumps([_plain(value) for value in row], ensure_ascii=True, separators=(",", ":")).encode()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return value


def _finish(target: Database) -> None:
    """Let new rows get numbers above those that were copied, and let the database be used."""
    with target.write() as connection:
        if connection.dialect.name == "postgresql":
            for table in metadata.sorted_tables:
                number = table.autoincrement_column
                if number is not None:
                    greatest = sa.select(sa.func.max(number)).scalar_subquery()
                    sequence = sa.func.pg_get_serial_sequence(table.name, number.name)
                    known = sa.func.coalesce(greatest, 1), greatest.is_not(None)
                    connection.execute(sa.select(sa.func.setval(sequence, *known)))
        progress.drop(connection)
        connection.execute(sa.update(_version).values(version_num=HEAD_REVISION))

"""The index moves between SQLite and a real PostgreSQL, whole, and continues after an interruption."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing as closing_connection
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.store import DataDirInUseError, Store
from dicom_node.store.errors import IndexDiffersError, MoveTargetError, UnfinishedMoveError
from dicom_node.store.moving import move_index, sqlite_index
from tests.many_studies import TABLES, fill
from tests.postgresql_server import PostgresqlServer
from tests.store.sending import T0, closing, instance, keep, received_series

pytestmark = [pytest.mark.peers, pytest.mark.slow]
N_STUDIES = 30


class StoppedError(Exception):
    """In the place of whatever ends a process."""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Data directory of a node that has worked, with rows in most tables, and an index in SQLite."""
    folder = tmp_path / "node"
    fill(folder, N_STUDIES, gate_digest="g")
    with Store.open(folder) as store:
        keep(store, instance(1, SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg=山田^太郎", series="1.2.9"))
        keep(store, instance(1, PatientName="Other^Person", series="1.2.9"))
    return folder


def after(n_reports: int) -> Callable[[str, int], None]:
    """A report that stops the move."""
    left = [n_reports]

    def report(_table: str, _n_rows: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StoppedError

    return report


def test_an_index_moves_to_postgresql_and_back_without_a_difference(node: Path, url: str) -> None:
    there = move_index(node, sqlite_index(node), url)
    assert {table: there[table].n_rows for table in TABLES} == {
        table: rows_in_sqlite(node / "index.sqlite", table) for table in TABLES
    }
    back = move_index(node, url, f"sqlite:///{node}/back.sqlite")
    assert back == there
    with (
        closing_connection(sqlite3.connect(node / "index.sqlite")) as before,
        closing_connection(sqlite3.connect(node / "back.sqlite")) as after_both,
    ):
        for table in TABLES:
            columns = ", ".join(row[1] for row in before.execute(f"PRAGMA table_info({table})"))
            rows = [
                sorted(index.execute(f"SELECT {columns} FROM {table}").fetchall(), key=repr)
                for index in (before, after_both)
            ]
            assert rows[0] == rows[1], table


def test_a_node_goes_on_where_it_was_and_numbers_new_rows_above_the_old(node: Path, url: str) -> None:
    move_index(node, sqlite_index(node), url)
    with Store.open(node, url=url) as store:
        greatest = store.jobs.list(limit=1)[0].id
        row = received_series(store, n_instances=1, series="1.2.77")
        store.closing.complete(row, closing(), T0)
        assert store.jobs.list(limit=1)[0].id > greatest
        assert len(store.search.search_studies({"PatientName": "müller*"})) == 1


@pytest.mark.parametrize("n_reports", [0, 3, 9])
def test_an_interrupted_move_continues_and_nobody_opens_what_is_unfinished(
    node: Path, url: str, n_reports: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.store.moving.BATCH_ROWS", 25)
    with pytest.raises(StoppedError):
        move_index(node, sqlite_index(node), url, report=after(n_reports))
    with pytest.raises(UnfinishedMoveError, match="type `store migrate` again"):
        Store.open(node, url=url)
    copied: list[str] = []
    sums = move_index(node, sqlite_index(node), url, report=lambda table, _: copied.append(table))
    assert sums["instances"].n_rows == rows_in_sqlite(node / "index.sqlite", "instances")
    everything = sum(max(1, each.n_rows // 25 + 1) for each in sums.values())
    assert len(copied) == everything - n_reports - 1
    Store.open(node, url=url).close()


def test_a_move_that_is_killed_again_and_again_ends_whole(node: Path, url: str, tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(f"node: {{data_dir: {node}}}\n")
    moments = ("_progress_of:before:9", "_progress_of:after:12", "_sum_of:before:7", "_finish:before:1", None)
    for moment in moments:
        at = "" if moment is None else f"end_at('dicom_node.store.moving:{moment}'); "
        script = f"from tests.crash.parts import end_at; {at}from dicom_node.cli import app; app()"
        command = [sys.executable, "-c", script, "store", "migrate", "-c", str(config), "--to", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == (0 if moment is None else -signal.SIGKILL), done.stderr
    assert "rows are alike on both sides; set node.database_url" in done.stdout
    back = move_index(node, url, f"sqlite:///{node}/back.sqlite")
    assert {table: back[table].n_rows for table in TABLES} == {
        table: rows_in_sqlite(node / "index.sqlite", table) for table in TABLES
    }


def test_a_source_that_changed_after_a_part_was_copied_is_found(
    node: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.store.moving.BATCH_ROWS", 25)
    with pytest.raises(StoppedError):
        move_index(node, sqlite_index(node), url, report=after(25))
    with closing_connection(sqlite3.connect(node / "index.sqlite")) as index, index:
        index.execute("UPDATE studies SET reason = 'another'")
    with pytest.raises(IndexDiffersError, match="table studies differs"):
        move_index(node, sqlite_index(node), url)
    with pytest.raises(UnfinishedMoveError):
        Store.open(node, url=url)
    move_index(node, sqlite_index(node), url, start_again=True)
    Store.open(node, url=url).close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_move_begins_again_although_the_audit_trail_is_append_only(
    node: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    there = f"sqlite:///{node}/there.sqlite" if kind == "sqlite" else request.getfixturevalue("url")
    tables: list[str] = []

    def report(table: str, _: int) -> None:
        tables.append(table)
        if "audit_chain" in tables:
            raise StoppedError

    with Store.open(node) as store:
        store.audit.record("looked", actor="A. Example", subject="the trail", now=T0, detail={})
        store.audit_chain.seal()
    with pytest.raises(StoppedError):
        move_index(node, sqlite_index(node), there, report=report)
    sums = move_index(node, sqlite_index(node), there, start_again=True)
    assert sums["audit"].n_rows == sums["audit_chain"].n_rows > 0
    with Store.open(node, url=there) as store, store._database.write() as connection:
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            connection.execute(sa.text("DELETE FROM audit"))
        connection.rollback()


def test_a_database_with_an_index_is_left_alone(node: Path, url: str) -> None:
    move_index(node, sqlite_index(node), url)
    with pytest.raises(MoveTargetError, match="holds an index already"):
        move_index(node, sqlite_index(node), url)
    with pytest.raises(MoveTargetError, match="is the database that the index is in"):
        move_index(node, url, url)


def test_a_node_that_runs_is_not_moved(node: Path, url: str, postgresql: PostgresqlServer) -> None:
    with Store.open(node), pytest.raises(DataDirInUseError):
        move_index(node, sqlite_index(node), url)
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+pg8000:"))
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def rows_in_sqlite(path: Path, table: str) -> int:
    with closing_connection(sqlite3.connect(path)) as index:
        return int(index.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

"""The schema that migrations leave, and databases from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from dicom_node.store import DatabaseTooNewError, Store
from dicom_node.store.database import MIGRATIONS
from dicom_node.store.schema import HEAD_REVISION, metadata


def test_migrations_leave_the_schema_that_the_code_uses(store: Store) -> None:
    with store._database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_head_revision_is_the_latest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD_REVISION]


def test_a_database_from_a_later_version_is_refused_and_left_alone(store: Store) -> None:
    with store._database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNewError, match=r"schema revision 9999, this version knows up to"):
        Store.open(store.data_dir)
    with store._database.read() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with sa.create_engine(f"sqlite:///{tmp_path / 'index.sqlite'}").begin() as connection:
        connection.execute(sa.text("CREATE TABLE studies (x INTEGER)"))  # somebody else's database
    with pytest.raises(Exception, match="studies"):
        Store.open(tmp_path)
    with sa.create_engine(f"sqlite:///{tmp_path / 'index.sqlite'}").connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["studies"]


def test_processes_that_open_a_new_folder_at_once_all_succeed(tmp_path: Path) -> None:
    code = "import sys, pathlib; from dicom_node.store import Store; Store.open(pathlib.Path(sys.argv[1])).close()"
    command = [sys.executable, "-c", code, str(tmp_path / "node")]
    processes = [subprocess.Popen(command, cwd=MIGRATIONS.parents[2]) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]


def test_the_index_survives_a_power_failure_by_its_settings(store: Store) -> None:
    with store._database.read() as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar_one() == 2  # FULL


def test_the_schema_can_be_said_in_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert len(str(index.name)) <= dialect.max_identifier_length
            str(CreateIndex(index).compile(dialect=dialect))

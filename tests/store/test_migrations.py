"""The schema that migrations leave, and databases from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from dicom_node.store import DatabaseTooNewError, Store
from dicom_node.store.database import MIGRATIONS, Database
from dicom_node.store.schema import HEAD_REVISION, instances, metadata, studies
from dicom_node.store.sqlite import sqlite_url
from tests.new_store import StoreMaker
from tests.store.sending import ONLY_SQLITE, instance, keep

_TIMES = {"first_arrival_at": "2026-01-01 00:00:00.000000", "last_arrival_at": "2026-01-01 00:00:00.000000"}


def test_migrations_leave_the_schema_that_the_code_uses(store: Store) -> None:
    with store._database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_what_was_closed_and_deleted_before_is_known_by_its_job_and_the_audit_trail(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "index.sqlite"))
    with database.write() as connection:
        _upgrade(connection, "0001")
        row = dict.fromkeys(_columns(connection, "studies"), "") | {"study_instance_uid": "1.2", **_TIMES}
        _insert(connection, "studies", row)
        of_series = dict.fromkeys(_columns(connection, "series"), "") | {
            "series_instance_uid": "1.2.3",
            "study_instance_uid": "1.2",
            "origin": "received",
            "state": "complete",
            "generation": 2,
            "n_instances": 1,
            "n_dataset_bytes": 1,
            "completed_at": None,
            **_TIMES,
        }
        _insert(connection, "series", of_series)
        of_audit = {"id": 1, "actor": "node", "action": "sources-deleted", "subject": "1.2.3"}
        detail = {"detail": '{"n_instances": 8, "generation": 1}', "occurred_at": "2026-01-01 00:00:00.000000"}
        _insert(connection, "audit", of_audit | detail)
        for generation, digest in ((1, "d9"), (2, "d1")):
            of_job = dict.fromkeys(_columns(connection, "jobs"), "") | {
                "id": generation,
                "series_instance_uid": "1.2.3",
                "generation": generation,
                "pipeline_digest": digest,
                "queued_at": "2026-01-01 00:00:00.000000",
            }
            _insert(connection, "jobs", of_job)
    database.dispose()
    with Store.open(tmp_path) as store:
        assert store.series.get("1.2.3").pipeline_digest == "d1"
        assert store.series.outdated("d1") == ()
        assert store.series.get("1.2.3").n_sources_deleted == 8


def test_long_texts_of_earlier_versions_are_cut(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        keep(store, instance(1, StudyDescription="whole"))
        keep(store, instance(1, series="1.2.3.5"))
        long = {"00081030": {"vr": "LO", "Value": ["x" * 4_000_000]}, "00080008": {"vr": "CS", "Value": ["A"] * 5000}}
        with store._database.write() as connection:
            connection.execute(
                sa.update(studies).values(attributes=json.dumps(long), study_description="x" * 4_000_000)
            )
            kept = connection.execute(sa.select(instances.c.attributes).order_by(instances.c.id)).scalars().all()
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '0003'"))
            _upgrade(connection, "0004")
            connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{HEAD_REVISION}'"))
    with Store.open(tmp_path) as store, store._database.read() as connection:
        row = connection.execute(sa.select(studies)).one()
        assert json.loads(row.attributes) == {
            "00081030": {"vr": "LO", "Value": ["x" * 256]},
            "00080008": {"vr": "CS", "Value": ["A"] * 32},
        }
        assert len(row.study_description) == 8192
        assert connection.execute(sa.select(instances.c.attributes).order_by(instances.c.id)).scalars().all() == kept


def test_studies_with_deleted_sources_are_judged_again_by_what_counts_now(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        keep(store, instance(1))
        keep(store, instance(1, study="1.2.9", series="1.2.9.1"))
        with store._database.write() as connection:
            connection.execute(sa.update(studies).values(state="cleared", gate_digest="g"))
            connection.execute(sa.text("UPDATE series SET state = 'deleted' WHERE study_instance_uid = '1.2.9'"))
            connection.execute(sa.text("DROP TABLE deleted_sources"))
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '0011'"))
            _upgrade(connection, "0012")
            connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{HEAD_REVISION}'"))
        assert [study.study_instance_uid for study in store.studies.due("g")] == ["1.2.9"]


def _upgrade(connection: sa.Connection, revision: str) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS))
    command.upgrade(config, revision)


def _columns(connection: sa.Connection, table: str) -> list[str]:
    return [column["name"] for column in sa.inspect(connection).get_columns(table)]


def _insert(connection: sa.Connection, table: str, row: dict[str, object]) -> None:
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)


def test_the_head_revision_is_the_latest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD_REVISION]


def test_a_database_from_a_later_version_is_refused_and_left_alone(store: Store, new_store: StoreMaker) -> None:
    with store._database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNewError, match=r"schema revision 9999, this version knows up to"):
        new_store.again(store.data_dir)
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


@ONLY_SQLITE
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

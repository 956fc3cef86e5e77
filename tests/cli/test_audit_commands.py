"""``dicom-node audit``: the trail as a table and as JSON, and its check."""

from __future__ import annotations

import getpass
import json
import sqlite3
from pathlib import Path

from dicom_node.store import JobRow, Store
from tests.cli.conftest import NOON, Run


def test_the_trail_is_listed_and_checked(run: Run, config: Path) -> None:
    with Store.open(config.parent / "data") as store:
        store.audit.record("exported", actor="A. Example", subject="1.2.3", now=NOON)
        store.audit.record("read", actor="B. Example", subject="1.2.4", now=NOON)
        store.audit_chain.seal()
    assert [row["actor"] for row in json.loads(run("audit", "--json", "-c", config).stdout)] == [
        "B. Example",
        "A. Example",
    ]
    for option in (("--who", "A. Example"), ("--what", "exported"), ("--study", "1.2.3")):
        (row,) = json.loads(run("audit", "list", *option, "--json", "-c", config).stdout)
        assert row["subject"] == "1.2.3"
    assert run("audit", "list", "--since", "2026-03-05", "-c", config).stdout == "no entries\n"
    checked = run("audit", "verify", "-c", config)
    assert checked.exit_code == 0
    *_, told, head = checked.stdout.splitlines()
    assert told.startswith("2 entries are sealed, 0 are too new")
    assert run("audit", "verify", "--head", head, "-c", config).exit_code == 0
    assert "POSITION:DIGEST" in run("audit", "verify", "--head", "x", "-c", config).stderr

    with sqlite3.connect(config.parent / "data" / "index.sqlite") as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET actor = 'C. Example' WHERE subject = '1.2.4'")
    connection.close()
    broken = run("audit", "verify", "--head", head, "-c", config)
    assert broken.exit_code == 3
    assert "position 2: entry 2 is not what was sealed" in broken.stdout


def test_what_is_typed_has_the_name_of_who_typed_it(run: Run, config: Path, queued_job: JobRow) -> None:
    uid = queued_job.series_instance_uid
    assert run("jobs", "cancel", queued_job.id, "--by", "A. Example", "-c", config).exit_code == 0
    assert run("jobs", "retry", queued_job.id, "-c", config).exit_code == 0
    assert run("deliveries", "cancel", "--peer", "pacs", "--by", "B. Example", "-c", config).exit_code == 0
    assert run("series", "reprocess", uid, "--by", "C. Example", "-c", config).exit_code == 0
    rows = json.loads(run("audit", "list", "--json", "-c", config).stdout)
    assert [(row["action"], row["actor"], row["subject"]) for row in reversed(rows)] == [
        ("job-cancelled", "A. Example", uid),
        ("job-retried", getpass.getuser(), uid),
        ("delivery-cancelled", "B. Example", "pacs"),
        ("series-reprocessed", "C. Example", uid),
    ]

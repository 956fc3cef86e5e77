"""An index of many studies: one is made as a node makes it, and copied by SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from dicom_node.store import Store
from tests.arrivals import NOON, leave_results

STRIDE = 1000  # between the numbers of rows of two copies
TABLES = ("studies", "series", "instances", "jobs", "verdicts", "results", "deliveries", "commitments", "exports")
NUMBERS = frozenset({"id", "job_id", "result_id", "delivery_id"})
UIDS = frozenset({"study_instance_uid", "series_instance_uid", "sop_instance_uid", "copy_study_instance_uid"})
# One open, two blocked and three for review among twenty; each arrived a second after the one before.
STATES = (
    "CASE WHEN n % 20 = 0 THEN 'open' WHEN n % 20 < 3 THEN 'blocked' WHEN n % 20 < 6 THEN 'review' ELSE 'cleared' END"
)
ARRIVAL = "strftime('%Y-%m-%d %H:%M:%f000', last_arrival_at, n || ' seconds')"
EXPORT = (
    "INSERT INTO exports (study_instance_uid, copy_study_instance_uid, project, key_fingerprint, target, state, "
    "evidence_fingerprint, gate_digest, content_digest, n_instances, began_at, published_at) "
    "SELECT study_instance_uid, '2.25.1', 'P', 'k', 'folder', 'published', evidence_fingerprint, gate_digest, 'c', 2, "
    "last_arrival_at, last_arrival_at FROM studies"
)


def fill(folder: Path, n_studies: int, *, gate_digest: str, share_deleted: float = 0.0) -> None:
    """Fill a new store: in each study a CT series, two results at a peer that has committed to them, and an export.

    Parameters
    ----------
    gate_digest
        By which all were judged; they have no key object documents.
    share_deleted
        Of the studies, whose received instances retention has deleted.
    """
    with Store.open(folder) as store:
        leave_results(store, "pacs")
        now = NOON + timedelta(minutes=2)
        for delivery in store.deliveries.claim_due("w", now, 60):
            store.deliveries.succeed(delivery.id, "w", now)
        store.commitments.enroll("pacs", now)
    with closing(sqlite3.connect(folder / "index.sqlite")) as index, index:
        for table in ("series", "instances", "deliveries"):  # the results belong to the study of their sources
            index.execute(f"UPDATE {table} SET study_instance_uid = (SELECT study_instance_uid FROM jobs)")
        index.execute("DELETE FROM studies WHERE study_instance_uid NOT IN (SELECT study_instance_uid FROM jobs)")
        index.execute(
            "UPDATE studies SET state = 'cleared', reason = 'every series is defaced', evidence_fingerprint = ?, "
            "gate_digest = ?, judged_at = last_arrival_at",
            ("f" * 64, gate_digest),
        )
        index.execute("UPDATE commitments SET state = 'committed', due_at = NULL")
        index.execute(EXPORT)
        for table in TABLES:
            columns = [row[1] for row in index.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(copied(table, column) for column in columns)
            index.execute(
                f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, numbers",
                (n_studies - 1,),
            )
        index.execute(
            "UPDATE series SET state = 'deleted' WHERE origin = 'received' AND study_instance_uid IN "
            "(SELECT study_instance_uid FROM studies ORDER BY study_instance_uid LIMIT ?)",
            (round(share_deleted * n_studies),),
        )


def copied(table: str, column: str) -> str:
    """SQL of a column's value in copy ``n``."""
    if column in NUMBERS:
        return f"{column} + n * {STRIDE}"
    if column in UIDS:
        return f"{column} || '.' || n"
    if table == "studies" and column in ("state", "last_arrival_at"):
        return STATES if column == "state" else ARRIVAL
    return column

"""The audit trail is append-only, and what was sealed cannot be changed unseen."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.pipeline.audit_sealing import AuditSealer
from dicom_node.store import DecisionKind, Store
from dicom_node.store.work.audit_head import Head
from tests.new_store import StoreMaker
from tests.store.sending import STUDY, T0, instance, keep

N = 5


@pytest.fixture
def store(new_store: StoreMaker, tmp_path: Path) -> Iterator[Store]:
    """With five entries that are sealed."""
    with new_store(tmp_path / "node") as opened:
        for number in range(N):
            opened.audit.record("read", actor="Änna", subject=f"1.2.{number}", now=T0 + timedelta(seconds=number))
        assert opened.audit_chain.seal() == N
        yield opened


def run(store: Store, *statements: str) -> None:
    with store._database.write() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def forge(store: Store, *statements: str) -> None:
    """Change the database as somebody does who may, and who has found the triggers."""
    on = "" if store._database.url.get_backend_name() == "sqlite" else " ON {}"
    names = [(table, f"{table}_no_{action}") for table in ("audit", "audit_chain") for action in ("update", "delete")]
    run(store, *(f"DROP TRIGGER {name}{on.format(table)}" for table, name in names), *statements)


def test_an_untouched_trail_is_whole(store: Store) -> None:
    report = store.audit_chain.verify()
    assert (report.n_sealed, report.n_unsealed, report.findings) == (N, 0, [])
    store.audit.record("read", actor="b", subject="1.2.9", now=T0)
    assert store.audit_chain.verify().n_unsealed == 1
    assert store.audit_chain.seal() == 1
    assert store.audit_chain.seal() == 0
    assert store.audit_chain.verify().findings == []


def test_a_digest_is_what_the_documentation_says(store: Store) -> None:
    digest = "0" * 64
    for number, row in enumerate(reversed(store.audit.list()), start=1):
        entry = [digest, number, row.id, row.actor, row.action, row.subject, "{}", row.occurred_at.isoformat()]
        digest = hashlib.sha256(json.dumps(entry).encode()).hexdigest()
    assert store.audit_chain.verify().digest == digest


@pytest.mark.parametrize("table", ["audit", "audit_chain"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET {}"])
def test_the_database_refuses_changes(store: Store, table: str, statement: str) -> None:
    change = "actor = 'x'" if table == "audit" else "digest = 'x'"
    with pytest.raises(Exception, match="append-only"):
        run(store, statement.format(table, change))
    assert store.audit_chain.verify().findings == []


SWAP = """UPDATE audit_chain SET position = CASE position WHEN 2 THEN -3 WHEN 3 THEN -2 ELSE position END;
UPDATE audit_chain SET position = -position WHERE position < 0"""
INSERT_LINK = "INSERT INTO audit_chain (position, audit_id, digest) VALUES"
INSERT_ENTRY = "INSERT INTO audit (id, actor, action, subject, detail, occurred_at) VALUES"


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "UPDATE audit SET actor = 'somebody else' WHERE subject = '1.2.2'",
            "position 3: entry 3 is not what was sealed",
        ),
        ("UPDATE audit SET occurred_at = '2031-01-01 00:00:00' WHERE subject = '1.2.2'", "position 3: entry 3"),
        (
            "UPDATE audit SET detail = '{\"a\": 1}' WHERE subject = '1.2.2'",
            "position 3: entry 3 is not what was sealed",
        ),
        ("DELETE FROM audit_chain WHERE position = 2", "position 2 is missing; the next one is 3"),
        ("DELETE FROM audit_chain WHERE position = 1", "position 1 is missing; the next one is 2"),
        ("UPDATE audit_chain SET digest = 'f00' WHERE position = 2", "position 2: entry 2 is not what was sealed"),
        (SWAP, "position 2: entry 3 is not what was sealed"),
        (
            f"{INSERT_ENTRY} (99, 'b', 'read', '1.2.7', '{{}}', '2026-01-01 00:00:00'); {INSERT_LINK} (6, 99, 'f00')",
            "position 6: entry 99 is not what was sealed",
        ),
    ],
)
def test_what_was_changed_moved_removed_or_appended_is_found(store: Store, statement: str, finding: str) -> None:
    forge(store, *re.split(r";\s", statement))
    findings = store.audit_chain.verify().findings
    assert findings[0].startswith(finding)
    assert len(findings) <= 3  # the rest of the chain still fits


def test_an_entry_that_was_removed_from_under_the_chain_is_found(tmp_path: Path) -> None:
    with Store.open(tmp_path / "node") as store:
        for number in range(N):
            store.audit.record("read", actor="a", subject=f"1.2.{number}", now=T0)
        store.audit_chain.seal()
    with sqlite3.connect(tmp_path / "node" / "index.sqlite") as database:  # which does not check references
        database.execute("DROP TRIGGER audit_no_delete")
        database.execute("DELETE FROM audit WHERE id = 3")
    database.close()
    with Store.open(tmp_path / "node") as store:
        assert store.audit_chain.verify().findings == ["position 3: entry 3 is missing"]


def test_a_chain_that_was_computed_anew_does_not_have_the_digest_that_was_noted(store: Store) -> None:
    noted = Head(N, store.audit_chain.verify().digest)
    forge(store, "DELETE FROM audit_chain", "UPDATE audit SET actor = 'somebody else'")
    store.audit_chain.seal()
    assert store.audit_chain.verify().findings == []
    assert store.audit_chain.verify([noted]).findings == [f"position {N}: the digest is not the one that was noted"]
    assert store.audit_chain.verify([Head(N + 1, "0" * 8)]).findings == [
        f"position {N + 1} was noted, and the chain ends at {N}"
    ]


@pytest.mark.parametrize("how", ["cut off", "computed anew"])
def test_the_file_beside_the_database_shows_an_end_that_was_cut_off_and_a_chain_that_was_computed_anew(
    store: Store, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    sealer = AuditSealer(store)
    sealer.seal()
    noted = store.audit_head.read()
    assert noted == Head(N, store.audit_chain.verify().digest)
    if how == "cut off":
        forge(store, f"DELETE FROM audit_chain WHERE position > {N - 2}", f"DELETE FROM audit WHERE id > {N - 2}")
    else:
        forge(store, "DELETE FROM audit_chain", "UPDATE audit SET actor = 'somebody else'")
    assert store.audit_chain.verify().findings == []  # the database by itself fits
    sealer.seal()
    for number in range(3):
        store.audit.record("read", actor="b", subject=f"1.3.{number}", now=T0)
    sealer.seal()
    assert store.audit_head.read() == noted  # what was noted is not replaced
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "the audit trail was changed"
    ]
    findings = store.audit_chain.verify([noted]).findings
    assert findings == [f"position {N}: the digest is not the one that was noted"]


def test_a_chain_that_is_shorter_than_what_was_sent_elsewhere_is_found(store: Store) -> None:
    store.audit_chain.note_forwarded("tls://audit.example.org", N)
    forge(store, f"DELETE FROM audit_chain WHERE position = {N}", f"DELETE FROM audit WHERE id = {N}")
    assert store.audit_chain.verify().findings == [
        f"position {N} was sent to tls://audit.example.org, and the chain ends at {N - 1}"
    ]


@pytest.mark.parametrize("text", ["", "5", "5:xyz", "-1:00", "5:00\n6:11"])
def test_a_file_that_says_something_else_fits_no_chain(store: Store, text: str) -> None:
    store.audit_head.path.write_text(text)
    noted = store.audit_head.read()
    assert noted is not None
    assert not store.audit_chain.has(noted)
    assert store.audit_chain.verify([noted]).findings == ["what was noted is no position of a chain"]


@pytest.fixture
def decided(store: Store) -> Store:
    """With two decisions on a study, sealed."""
    keep(store, instance(1))
    for kind, name, at in ((DecisionKind.HOLD, "Ann", T0), (DecisionKind.RELEASE, "Änna", T0 + timedelta(hours=1))):
        store.decisions.add(STUDY, kind, reason="a phantom", decided_by=name, now=at, check=lambda _: None)
    store.audit_chain.seal()
    assert store.audit_chain.verify().findings == []
    return store


def test_decisions_are_in_the_chain(decided: Store) -> None:
    newest, first = decided.audit.list(action="decided")
    assert (newest.actor, newest.subject, newest.occurred_at) == ("Änna", STUDY, T0 + timedelta(hours=1))
    assert newest.detail["kind"] == "release"
    assert newest.detail["reason"] == "a phantom"
    assert first.detail["decision"] == decided.decisions.of(STUDY)[1].id
    with pytest.raises(Exception, match="append-only"):
        run(decided, "UPDATE decisions SET kind = 'release'")


MADE_UP = """INSERT INTO decisions (study_instance_uid, kind, reason, decided_by, evidence_fingerprint, decided_at)
SELECT study_instance_uid, 'release', 'x', 'A', 'f', decided_at FROM decisions WHERE id = 1"""


@pytest.mark.parametrize(
    ("statement", "number", "words"),
    [
        ("UPDATE decisions SET kind = 'release' WHERE id = 1", 1, "is not in the audit trail as it is in the index"),
        ("UPDATE decisions SET decided_by = 'Ben' WHERE id = 2", 2, "is not in the audit trail as it is in the index"),
        ("UPDATE decisions SET evidence_fingerprint = 'f' WHERE id = 2", 2, "is not in the audit trail as it is"),
        ("DELETE FROM decisions WHERE id = 1", 1, "is in the audit trail, and no longer in the index"),
        (MADE_UP, 3, "is not in the audit trail as it is in the index"),
    ],
)
def test_a_decision_that_was_changed_removed_or_made_up_is_found(
    decided: Store, statement: str, number: int, words: str
) -> None:
    on = "" if decided._database.url.get_backend_name() == "sqlite" else " ON decisions"
    run(decided, f"DROP TRIGGER decisions_no_update{on}", statement)
    findings = decided.audit_chain.verify().findings
    assert findings[0].startswith(f"decision {number} on study {STUDY} {words}")


def test_decisions_on_a_study_that_was_deleted_are_not_missed(decided: Store) -> None:
    decided.erasure.delete(STUDY, reason="x", decided_by="Ann", now=T0)
    assert decided.audit_chain.verify().findings == []
    keep(decided, instance(1))
    assert decided.audit_chain.verify().findings == []


def test_entries_on_the_way_of_images_are_written_together(store: Store) -> None:
    for number in range(100):
        store.audit_buffer.note("association", actor="CT1", subject=str(number), now=T0, detail={"n": number})
    store.audit_buffer.flush()
    rows = store.audit.list(action="association", limit=1000)
    assert [row.detail["n"] for row in rows] == list(range(99, -1, -1))
    assert store.audit_chain.seal() == 100


def test_an_entry_that_no_database_takes_as_it_is_keeps_no_other_out(store: Store) -> None:
    store.audit_buffer.note("read", actor="a\0b", subject="\0", now=T0, detail={"said": "\ud800\0"})
    store.audit_buffer.note("read", actor="Ann", subject="1.2.0", now=T0)
    store.audit_buffer.flush()
    rows = store.audit.list(limit=2)
    assert [(row.actor, row.subject) for row in rows] == [("Ann", "1.2.0"), ("a\ufffdb", "\ufffd")]
    assert rows[1].detail == {"said": "?\0"}  # escaped, since the details are JSON


def test_what_waits_is_written_when_the_store_is_closed(new_store: StoreMaker, tmp_path: Path) -> None:
    with new_store(tmp_path / "node") as store:
        store.audit_buffer.note("association", actor="CT1", subject="1", now=T0)
    with new_store.again(tmp_path / "node") as store:
        assert [row.actor for row in store.audit.list()] == ["CT1"]


def test_entries_are_found_by_who_what_and_when(store: Store) -> None:
    store.audit.record("exported", actor="b", subject="1.2.0", now=T0 + timedelta(hours=1))
    assert [row.action for row in store.audit.list(actor="b")] == ["exported"]
    assert [row.actor for row in store.audit.list(action="read", subjects=["1.2.0"])] == ["Änna"]
    assert [row.actor for row in store.audit.list(since=T0 + timedelta(minutes=1))] == ["b"]

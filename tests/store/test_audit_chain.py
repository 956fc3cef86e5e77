"""The audit trail is append-only, and what was sealed cannot be changed unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.store import Store
from tests.new_store import StoreMaker
from tests.store.sending import T0

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


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "UPDATE audit SET actor = 'somebody else' WHERE subject = '1.2.2'",
            "position 3: entry 3 is not what was sealed",
        ),
        ("UPDATE audit SET occurred_at = '2031-01-01 00:00:00' WHERE subject = '1.2.2'", "position 3: entry 3"),
        ("DELETE FROM audit_chain WHERE position = 2", "position 2 is missing; the next one is 3"),
        ("UPDATE audit_chain SET digest = 'f00' WHERE position = 2", "position 2: entry 2 is not what was sealed"),
    ],
)
def test_what_was_changed_is_found(store: Store, statement: str, finding: str) -> None:
    forge(store, statement)
    findings = store.audit_chain.verify().findings
    assert findings[0].startswith(finding)
    assert len(findings) <= 2  # the rest of the chain still fits


def test_a_chain_that_was_computed_anew_does_not_have_the_digest_that_was_noted(store: Store) -> None:
    noted = (N, store.audit_chain.verify().digest)
    forge(store, "DELETE FROM audit_chain", "UPDATE audit SET actor = 'somebody else'")
    store.audit_chain.seal()
    assert store.audit_chain.verify().findings == []
    assert store.audit_chain.verify(noted).findings == [f"position {N}: the digest is not the one that was noted"]
    assert store.audit_chain.verify((N + 1, "0" * 8)).findings == [
        f"position {N + 1} was noted, and the chain ends at {N}"
    ]


def test_entries_on_the_way_of_images_are_written_together(store: Store) -> None:
    for number in range(100):
        store.audit_buffer.note("association", actor="CT1", subject=str(number), now=T0, detail={"n": number})
    store.audit_buffer.flush()
    rows = store.audit.list(action="association", limit=1000)
    assert [row.detail["n"] for row in rows] == list(range(99, -1, -1))
    assert store.audit_chain.seal() == 100


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

"""What a worker does is known to others while it does it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.store import Store, Task, parts
from tests.export.clearing import DIGEST
from tests.new_store import StoreMaker
from tests.store.sending import T0, closing, instance

BEGAN = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def test_a_stage_is_written_at_once_and_its_share_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("dicom_node.store.parts.time.monotonic", lambda: now_s)
    part = Store.announce(tmp_path, "work", BEGAN)
    found = lambda: Store.parts(tmp_path)[0].task  # noqa: E731
    part.note_task(Task(7, "reading", None, BEGAN))
    assert found() == Task(7, "reading", None, BEGAN)
    part.note_task(Task(7, "segment foreground", None, BEGAN + timedelta(seconds=1)))
    part.note_task(Task(7, "segment foreground", 0.25, BEGAN + timedelta(seconds=1)))
    assert found().share is None
    now_s += parts.TASK_S
    part.note_task(Task(7, "segment foreground", 0.5, BEGAN + timedelta(seconds=1)))
    assert found() == Task(7, "segment foreground", 0.5, BEGAN + timedelta(seconds=1))
    part.note_task(None)
    assert found() is None
    part.end()


def test_a_job_has_the_task_of_the_worker_that_runs_it(new_store: StoreMaker, tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        sent = instance()
        spool = store.objects.spool(
            sop_class_uid=sent.arrival.sop_class_uid,
            sop_instance_uid=sent.uid,
            transfer_syntax_uid=sent.arrival.transfer_syntax_uid,
        )
        spool.write(sent.encoded)
        store.inbox.keep(spool, sent.arrival)
        store.closing.complete(store.series.get("1.2.3.4"), closing(digest=DIGEST), T0)
        job = store.jobs.claim("w", T0, 60, pipeline_digest=DIGEST)
        assert job is not None
        assert store.task_of(job) is None
        part = Store.announce(tmp_path, "work", T0)
        part.note_task(Task(job.id, "verdict", None, T0))
        assert store.task_of(store.jobs.get(job.id)) == Task(job.id, "verdict", None, T0)
        store.jobs.cancel(job.id, T0)
        assert store.task_of(store.jobs.get(job.id)) is None
        part.end()

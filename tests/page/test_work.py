"""The page of work: progress, failures with a way out, retry and cancel, peers, disk and models."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dicom_node.store import JobState, Store, Task
from tests.arrivals import receive
from tests.browser import inaccessible, start_browser, take_picture, visit
from tests.export.clearing import DIGEST, NOW
from tests.factories import ct_series
from tests.new_store import NewStore
from tests.page.conftest import SCRIPT
from tests.page.serving import Reader, serve_page
from tests.store.sending import closing

PEERS = [{"kind": "dimse", "name": "pacs", "ae_title": "PACS", "host": "10.0.0.1", "port": 104}]
PICTURES = os.environ.get("DICOM_NODE_PICTURES")


@dataclass(frozen=True)
class Busy:
    """A node at work: a running, a queued and a dead job."""

    url: str
    store: Store
    running: int
    queued: int
    dead: int


@pytest.fixture
def busy(new_store: NewStore, tmp_path: Path) -> Iterator[Busy]:
    with new_store(tmp_path) as store:
        jobs = []
        for number, seed in enumerate(("dead", "running", "queued")):
            series = ct_series(n_slices=1, seed=seed)
            receive(store, series, at=NOW + timedelta(seconds=number))
            store.closing.complete(store.series.get(series.series_instance_uid), closing(digest=DIGEST), NOW)
        for _ in range(2):
            job = store.jobs.claim("w", NOW, 600, pipeline_digest=DIGEST)
            assert job is not None
            jobs.append(job.id)
            if len(jobs) == 1:
                words = f"series 1.2.3: {SCRIPT}; ask the sender"
                store.jobs.fail(job.id, "w", code="slice-gap", message=words, detail=None, retry_at=None, now=NOW)
        (waiting,) = store.jobs.list(states=(JobState.QUEUED,))
        part = Store.announce(tmp_path, "work", NOW)
        part.ready(pipeline_digest=DIGEST)
        part.note_task(Task(jobs[1], "segment foreground", 0.4, NOW))
        with serve_page(store, {"peers": PEERS}) as url:
            yield Busy(url, store, jobs[1], waiting.id, jobs[0])
        part.end()


@pytest.fixture
def reader(busy: Busy) -> Iterator[Reader]:
    with Reader(busy.url) as reading:
        yield reading


def test_work_shows_progress_failures_peers_and_disk(busy: Busy, reader: Reader) -> None:
    answer = reader.get("/work")
    text = html.unescape(answer.text)
    assert "segment foreground, 40 %" in text
    assert 'value="40"' in text
    assert "1 dead" in text
    assert "slice-gap" in text
    assert "with the same images it would fail again" in text
    assert "work ready" in text
    assert "PACS@10.0.0.1:104" in text
    assert "never" in text
    assert "free;" in text
    assert SCRIPT not in answer.text
    assert SCRIPT in text
    assert "segment foreground, 40 %" in html.unescape(reader.get("/work/now").text)


def test_a_dead_job_is_retried_and_a_running_one_cancelled(busy: Busy, reader: Reader) -> None:
    fields = reader.hidden("/work")
    assert reader.send(f"/work/jobs/{busy.dead}/retry", fields).status_code == 303
    assert busy.store.jobs.get(busy.dead).state is JobState.QUEUED
    assert reader.send(f"/work/jobs/{busy.running}/cancel", fields).status_code == 303
    assert busy.store.jobs.get(busy.running).state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("path", "status"), [("jobs/{queued}/burn", 400), ("jobs/x/retry", 400), ("jobs/999/retry", 404)]
)
def test_what_cannot_be_done_is_said(busy: Busy, reader: Reader, path: str, status: int) -> None:
    answer = reader.send(f"/work/{path.format(queued=busy.queued)}", reader.hidden("/work"))
    assert answer.status_code == status


def test_a_job_that_succeeded_meanwhile_is_not_cancelled(busy: Busy, reader: Reader) -> None:
    fields = reader.hidden("/work")
    busy.store.jobs.cancel(busy.queued, NOW)
    answer = reader.send(f"/work/jobs/{busy.queued}/cancel", fields)
    assert answer.status_code == 409
    assert reader.send(f"/work/jobs/{busy.running}/cancel", {"token": "x"}).status_code == 403


@pytest.mark.peers
def test_the_page_of_work_follows_in_a_browser(busy: Busy) -> None:
    with start_browser() as browser, visit(browser, busy.url, dark=True) as seen:
        page = seen.go("/work")
        expect(page.get_by_text("segment foreground, 40 %")).to_be_visible()
        assert inaccessible(page) == []
        if PICTURES:
            take_picture(page, Path(PICTURES), "work-dark")
        busy.store.jobs.cancel(busy.queued, NOW)
        expect(page.locator(f"#running-{busy.queued}")).to_have_count(0)
        page.get_by_role("button", name=f"retry jobs {busy.dead}").click()
        expect(page.get_by_text("No job failed for good.")).to_be_visible()
    assert busy.store.jobs.get(busy.dead).state is JobState.QUEUED

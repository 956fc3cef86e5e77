"""What senders, peers and people write is text on every page: nothing of it becomes markup, and nothing runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from pydicom import Dataset

from dicom_node.gate.decisions import decide
from dicom_node.gate.judging import study_decision
from dicom_node.offline.page import render_page
from dicom_node.store import DecisionKind, NewResult, NewVerdict, Outcome, Store
from tests.arrivals import receive
from tests.browser import start_browser
from tests.export.clearing import DIGEST, NOW, RULES, TERMS, export
from tests.factories import SyntheticSeries, ct_series
from tests.new_store import NewStore
from tests.page.serving import serve_page
from tests.page.test_upload import contents, zipped
from tests.sr_writer.writing import headers_of, masks_on, write
from tests.store.sending import closing

pytestmark = pytest.mark.peers

# Ends an attribute, loads what is not there, runs if it is markup; not longer than a name may be (PS3.5 6.2).
HOSTILE = '"><img src=planted onerror=alert(1)><script>alert(2)</script>'
NAME = '"><script>alert(3)</script>'  # in a name = divides groups of characters
MARKUP = """() => [...document.querySelectorAll("*")].filter(element =>
  element.matches("script:not([src]), img[src=planted]") ||
  [...element.attributes].some(one => one.name.startsWith("on"))).map(element => element.outerHTML)"""


def hostile(ds: Dataset, _: int) -> None:
    """Markup wherever a sender can write text."""
    ds.PatientName = f"Eve^{NAME}"
    ds.PatientID = ds.StudyDescription = ds.SeriesDescription = ds.InstitutionName = HOSTILE
    ds.PatientBirthDate, ds.AccessionNumber = "", HOSTILE[:16]


@contextmanager
def watched(browser: Browser, *, java_script: bool = True) -> Iterator[Page]:
    """A window in which nothing that was planted may happen."""
    context = browser.new_context(java_script_enabled=java_script)
    page, seen = context.new_page(), list[str]()
    page.on("dialog", lambda dialog: (seen.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: seen.append(f"script: {error}"))
    page.on("request", lambda sent: seen.append(sent.url) if sent.url.endswith("/planted") else None)
    page.on("console", lambda said: seen.append(said.text) if "Content Security Policy" in said.text else None)
    try:
        yield page
    finally:
        context.close()
    assert seen == []


def assert_is_text(page: Page, *, times: int = 1) -> None:
    """The hostile text is on the page, as often as it is expected at least, and no markup came of it."""
    page.wait_for_load_state("networkidle")
    assert page.locator("body").evaluate("body => body.textContent").count(HOSTILE) >= times, page.url
    assert page.evaluate(MARKUP) == []
    expect(page.locator("body > main, body > h1").first).to_be_visible()


PEER = {"kind": "dimse", "name": "pacs", "ae_title": "PACS", "host": HOSTILE, "port": 104}


@dataclass(frozen=True)
class Planted:
    """A node in which every text that somebody else writes is hostile: a study in review, an open one, failed work."""

    url: str
    store: Store
    review: SyntheticSeries
    decided: SyntheticSeries
    dead: SyntheticSeries


def judged(store: Store, seed: str) -> SyntheticSeries:
    """A study in review, whose reasons, remarks and failed delivery are hostile."""
    series = ct_series(3, seed=seed, edit=hostile)
    receive(store, series, at=NOW)
    store.closing.complete(store.series.get(series.series_instance_uid), closing(digest=DIGEST), NOW)
    job = store.jobs.claim("w", NOW, 60, pipeline_digest=DIGEST)
    assert job is not None
    report = {"verdict": "indeterminate", "reasons": [HOSTILE], "remarks": [{"code": "x", "text": HOSTILE}]}
    verdict = NewVerdict(1, "indeterminate", 0.5, (HOSTILE,), frozenset(), report)
    written = write(headers_of(series), series.truth.get_geometry(), *masks_on(series.voxels.shape))
    assert written is not None
    uids = written.sop_class_uid, written.sop_instance_uid, written.transfer_syntax_uid
    result = NewResult("seg", 1, *uids, written.encoded_dataset)
    outcome = Outcome((result,), (verdict,), deliver_to=(HOSTILE,))
    store.jobs.succeed(job.id, "w", outcome, NOW, decide_study=study_decision(RULES, DIGEST))
    return series


@pytest.fixture(scope="module")
def planted(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    with new_store(tmp_path_factory.mktemp("planted")) as store:
        review, decided, dead = judged(store, "review"), judged(store, "decided"), ct_series(1, seed="d", edit=hostile)
        decide(
            store,
            decided.study_instance_uid,
            DecisionKind.RELEASE,
            reason=HOSTILE,
            decided_by=HOSTILE,
            now=NOW + timedelta(seconds=1),
            gate_digest=TERMS.digest,
            rules=RULES,
        )
        store.audit.record("note", actor=HOSTILE, subject=decided.study_instance_uid, now=NOW, detail={"a": HOSTILE})
        receive(store, dead, at=NOW)
        store.closing.complete(store.series.get(dead.series_instance_uid), closing(digest=DIGEST), NOW)
        job = store.jobs.claim("w", NOW, 60, pipeline_digest=DIGEST)
        assert job is not None
        store.jobs.fail(job.id, "w", code="slice-gap", message=HOSTILE, detail=None, retry_at=None, now=NOW)
        for delivery in store.deliveries.claim_due("w", NOW, 60):
            store.deliveries.fail(delivery.id, "w", code="x", message=HOSTILE, retry_at=None, now=NOW)
        with serve_page(store, {"web": {"upload": True}, "peers": [PEER]}) as url:
            yield Planted(url, store, review, decided, dead)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started


def test_the_watch_sees_what_runs(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text(f'<h1>x</h1><a title="{HOSTILE}">x</a>')
    with pytest.raises(AssertionError, match="dialog"), watched(browser) as page:  # noqa: PT012
        page.goto(path.as_uri())
        assert len(page.evaluate(MARKUP)) == 2


def test_lists_and_studies_show_text(planted: Planted, browser: Browser, tmp_path: Path) -> None:
    export(planted.store, tmp_path, cohort=[planted.decided.study_instance_uid])
    with watched(browser) as page:
        page.goto(f"{planted.url}/")
        assert_is_text(page, times=3 * 2 + 2)  # ID and description of each study; who decided and why
        page.get_by_label("Name, patient ID").fill(HOSTILE)
        page.wait_for_url("**/?q=*")
        assert_is_text(page)
        page.goto(f"{planted.url}/studies/{planted.decided.study_instance_uid}")
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert_is_text(page, times=10)
        page.goto(f"{planted.url}/studies/{planted.dead.study_instance_uid}")
        assert_is_text(page, times=4)
        page.goto(f"{planted.url}/?modality={HOSTILE}")
        assert "expected a modality" in page.content()
        assert page.evaluate(MARKUP) == []


def test_review_and_work_show_text(planted: Planted, browser: Browser) -> None:
    with watched(browser) as page:
        page.goto(f"{planted.url}/review/{planted.review.study_instance_uid}")
        assert_is_text(page, times=3)
        page.locator("#reason").fill(HOSTILE)
        page.get_by_label("Your name").fill(HOSTILE)
        page.get_by_role("button", name="Hold").click()
        page.wait_for_url("**/review?*done=*")
        assert_is_text(page, times=2)
        page.goto(f"{planted.url}/work")
        assert_is_text(page, times=2)  # why a job failed; where a peer is


@pytest.mark.parametrize("java_script", [True, False], ids=["with scripts", "without"])
def test_names_of_uploaded_files_are_text(
    planted: Planted, browser: Browser, tmp_path: Path, java_script: bool
) -> None:
    image = contents(ct_series(1, seed=f"up {java_script}", edit=hostile))[0]
    path = tmp_path / "files.zip"
    path.write_bytes(zipped({f"{HOSTILE}.dcm": image, HOSTILE: b"no image", f"{HOSTILE}/.hidden": b"x"}))
    with watched(browser, java_script=java_script) as page:
        page.goto(f"{planted.url}/upload")
        page.get_by_label("Files or zip archives").set_input_files(path)
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_role("heading", level=2)).to_have_text("1 of 3 files stored")
        assert_is_text(page, times=4)


def test_the_page_of_an_offline_run_shows_text(browser: Browser, tmp_path: Path) -> None:
    volume = {
        "name": HOSTILE.replace("/", ""),
        "input": HOSTILE,
        "modality": HOSTILE,
        "verdict": HOSTILE,
        "probability": 0.5,
        "foreground_ml": 1.0,
        "anonymized_ml": 1.0,
        "timings_s": {},
    }
    summary = {
        "node_version": HOSTILE,
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T01:00:00+00:00",
        "models": [{"role": HOSTILE, "name": HOSTILE, "version": HOSTILE, "sha256": HOSTILE}],
        "n_volumes": 1,
        "n_failed": 1,
        "volumes": [volume],
        "failed": [{"name": HOSTILE, "code": "x", "message": HOSTILE}],
        "not_used": [{"code": "y", "reason": HOSTILE}],
    }
    path = tmp_path / "index.html"
    path.write_text("".join(render_page(summary)), encoding="utf-8")
    with watched(browser) as page:
        page.goto(path.as_uri())
        page.locator("th button").first.click()
        assert page.locator("body").evaluate("body => body.textContent").count(HOSTILE) >= 10
        assert [one for one in page.evaluate(MARKUP) if "planted" in one] == []
        assert page.locator("script").count() == 2  # the page's own

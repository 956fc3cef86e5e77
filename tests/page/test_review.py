"""Review in a browser: planes and the head from outside, decisions by keys, undo, next."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from dicom_node.gate.decisions import GateState, decide, standpoints, undo
from dicom_node.gate.errors import DecisionRefusedError
from dicom_node.store import DecisionKind, Place, Store
from tests.browser import inaccessible, start_browser, take_picture, visit
from tests.export.clearing import NOW, RULES, looked_at, say
from tests.new_store import NewStore
from tests.page.heads import head, look_at_heads, receive_head
from tests.page.serving import TERMS, Reader, serve_page

NAMES = ("whole", "cut", "other")
PICTURES = os.environ.get("DICOM_NODE_PICTURES")


@pytest.fixture(scope="module")
def heads(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, list[str]]]:
    """A store with three heads in doubt, and their Study Instance UIDs, the oldest first."""
    series = [head(name, has_face=name != "cut", step=4) for name in NAMES]
    with new_store(tmp_path_factory.mktemp("heads")) as store, pytest.MonkeyPatch.context() as patched:
        for minutes, one in enumerate(series):
            receive_head(store, one, at=NOW + timedelta(minutes=minutes))
        assert look_at_heads(store, patched, {}, at=NOW + timedelta(hours=1)) == len(NAMES)
        yield store, [one.study_instance_uid for one in series]


@pytest.fixture(scope="module")
def url(heads: tuple[Store, list[str]]) -> Iterator[str]:
    with serve_page(heads[0]) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started


def said(store: Store, uid: str) -> list[tuple[str, str]]:
    return [(row.kind.value, row.reason) for row in store.decisions.of(uid)]


def wait_for_heads(page: Page) -> None:
    page.wait_for_selector("#views[data-ready]", timeout=120_000)


def lightness(page: Page, canvas: str) -> float:
    """Share of a canvas that is neither black nor background."""
    picture = page.locator(canvas).screenshot()
    from io import BytesIO

    import numpy as np
    from PIL import Image

    return float((np.asarray(Image.open(BytesIO(picture)).convert("L")) > 60).mean())


@pytest.mark.peers
@pytest.mark.slow
def test_a_person_reviews_by_keys(heads: tuple[Store, list[str]], url: str, browser: Browser) -> None:
    store, (whole, cut, other) = heads
    with visit(browser, url, width=900, height=600) as seen:
        page = seen.go("/review")
        page.wait_for_url(f"**/review/{whole}")
        wait_for_heads(page)
        assert lightness(page, "#surface") > 0.05  # a head is there
        assert lightness(page, "#planes") > 0.05
        assert inaccessible(page) == []
        if PICTURES:
            take_picture(page, Path(PICTURES), "review-light")
        page.keyboard.press("r")  # nothing is decided without reason and name
        assert said(store, whole) == []
        page.get_by_label("Your name").fill("A. Example")
        page.keyboard.press("Escape")
        page.keyboard.press("3")
        page.keyboard.press("h")
        page.wait_for_url(f"**/review/{cut}?done=*")
        assert said(store, whole) == [("hold", "a face can be recognised")]
        expect(page.get_by_label("Your name")).to_have_value("A. Example")
        page.keyboard.press("1")
        page.keyboard.press("r")
        page.wait_for_url(f"**/review/{other}?done=*")
        assert said(store, cut) == [("release", "no face can be recognised")]
        page.keyboard.press("u")
        page.wait_for_url(f"**/review/{cut}")
        (withdrawn, _) = store.decisions.of(cut)
        assert (withdrawn.kind, withdrawn.decided_by) == (DecisionKind.WITHDRAW, "A. Example")
        expect(page.locator("p .state")).to_have_text("review")
        page.keyboard.press("n")
        page.wait_for_url(f"**/review/{other}")
        page.keyboard.press("n")  # after the last comes the first that is still in doubt
        page.wait_for_url(f"**/review/{cut}")


def test_a_hundred_studies_are_decided_in_far_less_than_ten_minutes_of_the_node(
    new_store: NewStore, tmp_path: Path
) -> None:
    """What a person waits for besides looking: the next page, after a decision."""
    with new_store(tmp_path) as store:
        for number in range(12):
            looked_at(store, "indeterminate", f"n{number}", with_seg=False)
        with serve_page(store) as served, Reader(served) as reader:
            began_s = time.process_time()
            where = reader.get("/review").headers["location"]
            for _ in range(12):
                fields = reader.hidden(where) | {"kind": "hold", "reason": "x", "name": "A"}
                answer = reader.send(f"{where.partition('?')[0]}/decide", fields)
                assert answer.status_code == 303
                answer = reader.get(answer.headers["location"])
                where = answer.headers.get("location", "")
            assert "No study waits for a decision" in answer.text
            assert time.process_time() - began_s < 12 * 1.0


def test_a_study_that_changed_is_not_decided(new_store: NewStore, tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        uid = looked_at(store, "indeterminate", with_seg=False).study_instance_uid
        with serve_page(store) as served, Reader(served) as reader:
            fields = reader.hidden(f"/review/{uid}") | {"evidence": "0" * 64, "kind": "release"}
            answer = reader.send(f"/review/{uid}/decide", fields | {"reason": "x", "name": "A"})
            assert answer.status_code == 409
            assert "has changed since you opened it" in answer.text
        assert store.decisions.of(uid) == ()


def test_an_undone_release_of_a_held_study_holds_it_again(new_store: NewStore, tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        series = looked_at(store, "indeterminate", with_seg=False)
        uid = series.study_instance_uid

        def state() -> GateState:
            (found,) = standpoints(store, [store.studies.get(uid)], TERMS.digest, RULES)
            assert found.state in store.browsing.count(TERMS.for_index)
            return found.state

        def release(seconds: int) -> int:
            later = NOW + timedelta(seconds=seconds)
            words = {"reason": "x", "decided_by": "Ann", "gate_digest": TERMS.digest, "rules": RULES}
            return decide(store, uid, DecisionKind.RELEASE, now=later, **words).id

        say(store, series, DecisionKind.HOLD)
        assert state() is GateState.HELD
        first = release(60)
        assert state() is GateState.CLEARED
        undo(store, uid, first, decided_by="Bea", now=NOW + timedelta(seconds=90))
        assert state() is GateState.HELD
        assert said(store, uid)[0] == ("hold", f"undo of decision {first}: looked at")
        with pytest.raises(DecisionRefusedError, match="somebody has decided on it since"):
            undo(store, uid, first, decided_by="Bea", now=NOW + timedelta(seconds=91))
        words = {"reason": "x", "decided_by": "Ann", "gate_digest": TERMS.digest, "rules": RULES}
        decide(store, uid, DecisionKind.WITHDRAW, now=NOW + timedelta(seconds=95), **words)
        assert state() is GateState.REVIEW
        with pytest.raises(DecisionRefusedError, match="no decision that could be withdrawn"):
            decide(store, uid, DecisionKind.WITHDRAW, now=NOW + timedelta(seconds=96), **words)


def test_the_queue_begins_with_the_oldest(heads: tuple[Store, list[str]]) -> None:
    from dicom_node.store import Wanted

    store, uids = heads
    found = store.browsing.find(Wanted(), TERMS.for_index, is_oldest_first=True)
    assert [place.study_instance_uid for place in found] == uids
    rest = store.browsing.find(Wanted(), TERMS.for_index, after=Place(NOW, uids[0]), is_oldest_first=True)
    assert [place.study_instance_uid for place in rest] == uids[1:]


def test_the_next_studys_pictures_are_made_meanwhile(heads: tuple[Store, list[str]], url: str) -> None:
    answer = httpx.get(f"{url}/review/warm", trust_env=False, timeout=60)
    assert answer.status_code == 204
    assert list(heads[0].data_dir.glob("derived/*/*.pictures.z"))

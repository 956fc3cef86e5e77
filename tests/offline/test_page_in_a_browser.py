"""The page of an offline run in a browser: thousands of volumes are sorted and filtered, one page of them is shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from dicom_node.offline.page import render_page
from tests.browser import inaccessible, start_browser
from tests.offline.test_page import volume

pytestmark = pytest.mark.peers
N_VOLUMES = 250


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a page whose volumes become smaller; every fifth has a face."""
    volumes = [
        volume(f"head {number}", "face_present" if number % 5 == 0 else "defaced", foreground_ml=1000.0 - number)
        for number in range(N_VOLUMES)
    ]
    summary = {
        "node_version": "1.0",
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T01:00:00+00:00",
        "models": [],
        "n_volumes": N_VOLUMES,
        "n_failed": 0,
        "volumes": volumes,
        "failed": [],
        "not_used": [],
    }
    path = tmp_path_factory.mktemp("run") / "index.html"
    path.write_text("".join(render_page(summary)), encoding="utf-8")
    return path.as_uri()


def names(page: Page) -> list[str]:
    return [text.split("\n")[0].strip() for text in page.locator("tbody.volumes td.name").all_inner_texts()]


def test_a_hundred_rows_are_shown_of_what_is_sorted_and_filtered(index: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(index)
    assert names(page) == [f"head {number}" for number in range(100)]
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    assert names(page) == [f"head {number}" for number in range(200, N_VOLUMES)]
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.get_by_role("button", name="foreground, mL").click()
    assert names(page)[:2] == ["head 249", "head 248"]
    page.get_by_role("button", name="name", exact=True).click()
    assert names(page)[9:11] == ["head 9", "head 10"]  # numbers in names count as numbers
    page.get_by_role("combobox").select_option("face_present")
    assert names(page) == [f"head {number}" for number in range(0, N_VOLUMES, 5)]
    expect(page.locator("output[name=shown]")).to_have_text("50 of 250 volumes")
    page.get_by_role("searchbox").fill("HEAD 24")
    assert names(page) == ["head 240", "head 245"]
    page.get_by_role("searchbox").fill("nothing is called so")
    assert names(page) == []
    assert inaccessible(page) == []
    page.close()


def test_without_scripts_every_row_is_shown(index: str, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(index)
    assert page.locator("tbody.volumes tr").count() == N_VOLUMES
    expect(page.locator("tbody.volumes tr").first).to_be_visible()
    context.close()

"""A person with a browser: the page works by keys, in light and dark, and tools for the blind find nothing serious."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import inaccessible, take_picture, visit
from tests.page.conftest import SCRIPT, Node

pytestmark = pytest.mark.peers


PICTURES = os.environ.get("DICOM_NODE_PICTURES")  # a folder for screenshots, where a person wants to look at them


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_every_page_is_accessible_and_runs_no_foreign_script(node: Node, browser: Browser, is_dark: bool) -> None:
    pages = {"studies": "/", "study": f"/studies/{node.open.study_instance_uid}", "error": "/studies/1.2.3"}
    pages |= {"upload": "/upload"}
    with visit(browser, node.url, dark=is_dark) as seen:
        for name, path in pages.items():
            page = seen.go(path)
            page.wait_for_load_state("networkidle")
            assert inaccessible(page) == []
            assert page.title() != "owned"
            if PICTURES:
                take_picture(page, Path(PICTURES), f"{name}-{'dark' if is_dark else 'light'}")
        seen.troubles[:] = [one for one in seen.troubles if "404" not in one]
        expect(seen.go(pages["study"]).get_by_role("heading", level=1)).to_contain_text(SCRIPT)


def test_no_page_is_wider_than_a_narrow_window(node: Node, browser: Browser) -> None:
    with visit(browser, node.url, width=400) as seen:
        for path in ("/", "/?q=nobody", f"/studies/{node.cleared.study_instance_uid}", "/work", "/upload", "/review"):
            page = seen.go(path)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        seen.troubles[:] = [one for one in seen.troubles if "404" not in one]


def test_a_person_finds_a_study_and_decides_by_keys(node: Node, browser: Browser) -> None:
    uid = node.review.study_instance_uid
    with visit(browser, node.url) as seen:
        page = seen.go("/")
        page.keyboard.press("/")
        page.keyboard.type("MRN-123")
        expect(page.locator("tr[data-row]")).to_have_count(4)
        page.locator("select[name=state]").select_option("review")
        expect(page.locator("tr[data-row]")).to_have_count(1)
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/studies/{uid}")
        page.keyboard.press("e")
        page.keyboard.type("a phantom")
        page.keyboard.press("Tab")
        page.keyboard.type("A. Example")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("main > p .state")).to_have_text("cleared")
        page.go_back()
        assert page.evaluate("localStorage.getItem('name')") == "A. Example"
    (decision,) = node.store.decisions.of(uid)
    assert (decision.kind.value, decision.decided_by, decision.reason) == ("release", "A. Example", "a phantom")


def test_without_scripts_the_list_can_still_be_searched(node: Node, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(node.url)
    page.get_by_label("Name, patient ID").fill("zyxwvut")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tr[data-row]")).to_have_count(4)
    context.close()

"""A headless Chromium for tests of pages, and axe-core, which looks for what people with disabilities cannot use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# WebGL is drawn by the processor; nothing is fetched behind the tests' back.
ARGUMENTS = [
    *("--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
]
SERIOUS = ("serious", "critical")
LEFT_BEHIND = ("htmx:sendAbort", "htmx:afterRequest")  # logged as errors when a page is left while something loads


@contextmanager
def start_browser() -> Iterator[Browser]:
    """Start Chromium for the time of the block; the test is skipped, by name, where it is missing."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium: on Debian, as root, make peers")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A window of its own, with what went wrong in it: errors in scripts, refused content, requests elsewhere."""

    page: Page
    root: str
    troubles: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        self.page.goto(self.root + path)
        return self.page


@contextmanager
def visit(browser: Browser, root: str, *, dark: bool = False, width: int = 1400, height: int = 900) -> Iterator[Visit]:
    """Open a window; at the end, nothing may have gone wrong in it."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    context.set_default_timeout(20_000)
    visited = Visit(context.new_page(), root)
    page = visited.page
    page.on("pageerror", lambda error: visited.troubles.append(f"script: {error}"))
    page.on(
        "console",
        lambda said: (
            visited.troubles.append(said.text)
            if said.type == "error" and not said.text.startswith(LEFT_BEHIND)
            else None
        ),
    )
    page.on(
        "request",
        lambda sent: (
            None if sent.url.startswith((root, "data:", "blob:")) else visited.troubles.append(f"elsewhere: {sent.url}")
        ),
    )
    try:
        yield visited
    finally:
        context.close()
    assert visited.troubles == [], visited.troubles


def inaccessible(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page."""
    found = Axe().run(page)
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]}"
        for one in found.response["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"][:3]
    ]


def take_picture(page: Page, folder: Path, name: str) -> Path:
    """Keep a screenshot of the whole page."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path

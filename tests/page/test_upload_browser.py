"""Uploads in a browser: chosen and dropped files, progress, results, links; and without scripts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FileChooser, Page, expect
from playwright.sync_api import TimeoutError as WaitedTooLong

from dicom_node.store import Store
from tests.browser import inaccessible, start_browser, take_picture, visit
from tests.factories import SyntheticSeries, ct_series
from tests.new_store import NewStore
from tests.page.conftest import SCRIPT, hostile
from tests.page.serving import serve_page
from tests.page.test_upload import contents, zipped

pytestmark = pytest.mark.peers
PICTURES = os.environ.get("DICOM_NODE_PICTURES")


@pytest.fixture(scope="module")
def store(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with new_store(tmp_path_factory.mktemp("upload")) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    with serve_page(store, {"web": {"upload": True}}) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started


def folder_of(series: SyntheticSeries, folder: Path) -> Path:
    """A folder as a CD has it: images, a directory, hidden files and others."""
    (folder / "DICOM").mkdir(parents=True)
    for number, content in enumerate(contents(series)):
        (folder / "DICOM" / f"IM{number}").write_bytes(content)
    (folder / "DICOMDIR").write_bytes(contents(series)[0])
    (folder / "READ ME.txt").write_text("how to use this disc")
    return folder


def drop(page: Page, *paths: Path) -> None:
    """Drop files and folders on the page, as a file manager does."""
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})


def expect_result(page: Page, words: str) -> None:
    expect(page.get_by_role("heading", level=2)).to_have_text(words)


def chooser_by_key(page: Page, key: str) -> FileChooser:
    """Press a key that opens a file chooser; press it again where a busy browser has swallowed it."""
    for _ in range(3):
        with contextlib.suppress(WaitedTooLong):
            with page.expect_file_chooser(timeout=7000) as choosing:
                page.keyboard.press(key)
            return choosing.value
    pytest.fail(f"the key {key} opens no file chooser")


def test_a_folder_is_chosen_and_uploaded_by_keys(store: Store, url: str, browser: Browser, tmp_path: Path) -> None:
    series = ct_series(3, seed="folder", edit=hostile)
    folder = folder_of(series, tmp_path / "cd <b>1")
    with visit(browser, url, dark=True) as seen:
        page = seen.go("/upload")
        assert inaccessible(page) == []
        chooser_by_key(page, "d").set_files(folder)
        expect(page.locator("#chosen")).to_contain_text("5 files")
        page.keyboard.press("Enter")
        expect_result(page, "3 of 5 files stored")
        expect(page.get_by_role("row", name="READ ME.txt")).to_contain_text("no DICOM file; it was not sent")
        expect(page.get_by_role("row", name="DICOMDIR")).to_contain_text("left out")
        assert inaccessible(page) == []
        if PICTURES:
            take_picture(page, Path(PICTURES), "upload-done-dark")
        page.get_by_role("link", name="Eve, <script>document.title").click()
        page.wait_for_url(f"**/studies/{series.study_instance_uid}")
    assert len(store.search.find_instances(study_instance_uid=series.study_instance_uid)) == 3


def test_a_dropped_folder_and_an_archive_are_uploaded(store: Store, url: str, browser: Browser, tmp_path: Path) -> None:
    series = ct_series(3, seed="dropped")
    first, *others = contents(series)
    packed, folder = tmp_path / "others.zip", tmp_path / "folder" / "below"
    folder.mkdir(parents=True)
    packed.write_bytes(zipped({f"IM{number}": content for number, content in enumerate(others)}))
    (folder / "IM0").write_bytes(first)
    (folder / f"{SCRIPT.replace('/', '')}.txt").write_bytes(b"no image")
    with visit(browser, url) as seen:
        page = seen.go("/upload")
        drop(page, packed, folder.parent)
        expect(page.locator("#chosen")).to_contain_text("3 files")
        page.keyboard.press("Enter")
        expect_result(page, "3 of 4 files stored")
        expect(page.get_by_role("row", name="folder/below/<script>")).to_contain_text("no DICOM file")
        assert page.title() != "owned"
    assert len(store.search.find_instances(study_instance_uid=series.study_instance_uid)) == 3


def test_a_broken_connection_is_bridged_and_a_stale_form_is_told(url: str, browser: Browser, tmp_path: Path) -> None:
    image = tmp_path / "one.dcm"
    image.write_bytes(contents(ct_series(1, seed="broken"))[0])
    with visit(browser, url) as seen:
        page = seen.go("/upload")
        tries: list[str] = []

        def break_once(route) -> None:  # type: ignore[no-untyped-def]
            tries.append(route.request.method)
            route.abort() if len(tries) == 1 else route.continue_()

        page.route("**/upload", break_once)
        drop(page, image)
        expect(page.locator("#chosen")).to_contain_text("1 file,")
        page.keyboard.press("Enter")
        expect_result(page, "1 of 1 file stored")
        assert len(tries) == 2
        page.context.clear_cookies()
        drop(page, image)
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_role("alert")).to_contain_text("reload the page and try again")
        seen.troubles.clear()  # the browser itself reports both


def test_without_scripts_files_are_uploaded_by_the_form(
    store: Store, url: str, browser: Browser, tmp_path: Path
) -> None:
    series = ct_series(2, seed="no scripts")
    paths = [tmp_path / "IM1", tmp_path / "notes.txt"]
    for path, content in zip(paths, (contents(series)[0], b"hello"), strict=True):
        path.write_bytes(content)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{url}/upload")
    page.get_by_label("Files or zip archives").set_input_files(paths)
    page.get_by_role("button", name="Upload").click()
    expect_result(page, "1 of 2 files stored")
    expect(page.get_by_role("row", name="notes.txt")).to_contain_text("no DICOM file")
    context.close()
    assert len(store.search.find_instances(study_instance_uid=series.study_instance_uid)) == 1

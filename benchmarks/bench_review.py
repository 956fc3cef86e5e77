"""Measure how long a person who reviews by keys waits for the page: from a decision to the next head.

Heads in doubt are received and seen by a worker, a threshold standing in for the networks. Chromium, without a graphics
card, then decides one after the other with the keys ``1`` and ``r``:

    python -m benchmarks.bench_review --studies 100

Prints a Markdown table: seconds until the next form takes keys, and until planes and head are drawn; and the processor
time of a study, of Chromium (which draws in software here) and of the node, which does not depend on what else the
machine does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page

from dicom_node.store import Store
from tests.browser import start_browser
from tests.export.clearing import NOW
from tests.page.heads import head, look_at_heads, receive_head
from tests.page.serving import serve_page

TIMEOUT_MS: Final = 300_000
READY: Final = "#views[data-ready]"
MINUTES: Final = 10.0  # in which a hundred studies should be reviewed


def fill(store: Store, n_studies: int, step: int) -> None:
    """Receive heads, every second one without a face, and have a worker look at them."""
    for number in range(n_studies):
        one = head(f"n{number}", has_face=number % 2 == 0, step=step)
        receive_head(store, one, at=NOW + timedelta(seconds=number))
    with pytest.MonkeyPatch.context() as patched:
        look_at_heads(store, patched, {}, at=NOW + timedelta(hours=1))


def cpu_of_children_s() -> float:
    """Return the processor time so far of all processes that this one has started, directly or not."""
    ticks: dict[int, float] = {}
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(path.parent.name)] = int(fields[1])
        ticks[int(path.parent.name)] = float(fields[11]) + float(fields[12])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks.get(pid, 0.0) for pid in ours - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def review(page: Page, n_studies: int) -> tuple[list[float], list[float]]:
    """Decide all studies by keys; return seconds until the next form was there, and until its head was drawn."""
    forms: list[float] = []
    heads: list[float] = []
    page.wait_for_selector(READY, timeout=TIMEOUT_MS)
    page.get_by_label("Your name").fill("A. Example")
    page.keyboard.press("Escape")
    for number in range(n_studies):
        before = page.url
        page.keyboard.press("1")
        began_s = time.perf_counter()
        page.keyboard.press("r")
        page.wait_for_url(lambda url, before=before: url != before, timeout=TIMEOUT_MS, wait_until="domcontentloaded")
        forms.append(time.perf_counter() - began_s)
        if number < n_studies - 1:
            page.wait_for_selector(READY, timeout=TIMEOUT_MS)
            heads.append(time.perf_counter() - began_s)
    return forms, heads


def main() -> None:
    """Fill, review and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument(
        "--step", type=int, default=2, help="keep every STEP-th voxel of the 1.2 mm heads along each axis"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-review-") as name, Store.open(Path(name)) as store:
        fill(store, arguments.studies, arguments.step)
        with serve_page(store) as url, start_browser() as browser:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"{url}/review")
            page.wait_for_selector(READY, timeout=TIMEOUT_MS)
            browser_s, node_s = cpu_of_children_s(), time.process_time()
            forms, heads = review(page, arguments.studies)
            browser_s = (cpu_of_children_s() - browser_s) / arguments.studies
            node_s = (time.process_time() - node_s) / arguments.studies
        n_decided = sum(bool(store.decisions.of(row.study_instance_uid)) for row in store.studies.list(limit=10**6))
    print(f"{n_decided} studies decided\n\n| from a decision until | median s | slowest s |\n|---|---:|---:|")
    for title, seconds in (("the next form takes keys", forms), ("its planes and head are drawn", heads)):
        print(f"| {title} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")
    left_s = MINUTES * 60 / 100 - statistics.median(heads)
    print(f"\nprocessor time of a study: {browser_s:.2f} s of the browser, {node_s:.2f} s of node and test")
    print(f"of 6 s a study, {left_s:.1f} s are left to the person; load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()

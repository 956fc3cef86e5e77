"""Measure the page and its API among 100,000 studies: lists, searches, filters, the queue of reviews, work, metrics.

The index is that of `bench_studies`, with names, numbers and dates that differ, decisions, and rare verdicts. Requests
go to the application as the web process builds it, in this process, so that nothing but the answer is timed:

    python -m benchmarks.bench_page --studies 100000 --rounds 5

Prints a Markdown table: milliseconds of wall and of processor time, medians, and the slowest round.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from starlette.testclient import TestClient

from benchmarks.bench_studies import terms_of
from dicom_node import app
from dicom_node.dicomweb import build_app
from dicom_node.page import page_routes
from dicom_node.page.queue import place_text
from dicom_node.settings import Settings, load_settings
from dicom_node.store import Store, Wanted
from tests.many_studies import STRIDE, fill

GOAL_MS: Final = 300.0
_FAMILIES: Final = 1000
# Copies of one study become studies of different people: 1000 family names, ten years of dates.
_DIFFER: Final = f"""
UPDATE studies SET
    patient_id = printf('P%07d', rowid),
    accession_number = printf('A%08d', rowid),
    patient_name_key = printf('fam%03d^given%02d', rowid * 7 % {_FAMILIES}, rowid % 89),
    study_date = strftime('%Y%m%d', '2016-01-01', (rowid * 7919 % 3650) || ' days');
INSERT INTO verdicts (job_id, stack_number, verdict, probability, reasons, report, found_at)
SELECT id, 1, CASE WHEN id / {STRIDE} % 1000 = 7 THEN 'indeterminate'
    WHEN id / {STRIDE} % 2 = 0 THEN 'defaced' ELSE 'face_present' END, 0.99, '[]', '{{}}', ended_at FROM jobs;
INSERT INTO decisions (study_instance_uid, kind, reason, decided_by, evidence_fingerprint, decided_at)
SELECT study_instance_uid, CASE WHEN rowid % 200 = 0 THEN 'hold' ELSE 'release' END, 'looked at', 'Ann',
    evidence_fingerprint, last_arrival_at FROM studies WHERE rowid % 50 = 0
"""


def build(store: Store, settings: Settings) -> TestClient:
    """Return a client of the application that the web process serves."""
    terms = app.live_terms(settings)
    gatekeeper = app.web_gatekeeper(settings, store)
    web_app = build_app(
        store,
        terms=terms,
        decoding_bytes=settings.web.decoding_bytes,
        gatekeeper=gatekeeper,
        more_routes=page_routes(store, settings, terms, gatekeeper=gatekeeper),
    )
    return TestClient(web_app, base_url="http://localhost", follow_redirects=False)


def questions(store: Store, settings: Settings) -> dict[str, str]:
    """Return what is asked: a name for people → a path."""
    terms = terms_of(settings).for_index
    middle = store.browsing.find(Wanted(), terms, limit=50_000)[-1]
    (queued,) = store.browsing.find(Wanted(states=("review",)), terms, limit=1, is_oldest_first=True)
    uid = middle.study_instance_uid
    return {
        "list: newest 50": "/",
        "list: 50 in the middle": f"/?after={quote(place_text(middle))}",
        **{f"list: {state}": f"/?state={state}" for state in ("open", "blocked", "review", "cleared", "held")},
        "list: verdict, every second study": "/?verdict=defaced",
        "list: verdict, one in 1000": "/?verdict=indeterminate",
        "list: verdict, none": "/?verdict=not_applicable",
        "list: rare verdict and state": "/?verdict=indeterminate&state=cleared",
        "list: modality all have": "/?modality=CT",
        "list: modality none has": "/?modality=MR",
        "list: dates, one month": "/?from=2020-02-01&to=2020-02-29",
        "list: dates, one year, blocked": "/?from=2020-01-01&to=2020-12-31&state=blocked",
        "search: family name": "/?q=fam123",
        "search: one letter, all names": "/?q=f",
        "search: one letter, no name": "/?q=z",
        "search: name that nobody has": "/?q=zorro",
        "search: patient ID": "/?q=P0050000",
        "search: accession number": "/?q=A00050000",
        "search: UID": f"/?q={uid}",
        "counts by state": "/studies/counts",
        "a study": f"/studies/{uid}",
        "review: next": "/review",
        "review: next after one in the middle": f"/review?after={quote(place_text(middle))}",
        "review: a study": f"/review/{queued.study_instance_uid}",
        "work": "/work/now",
        "API: 100 studies in review": "/api/studies?state=review",
        "API: 100 studies after 50,000": "/api/studies?offset=50000",
        "API: a study": f"/api/studies/{uid}",
        "API: 100 jobs": "/api/jobs",
        "API: work": "/api/work",
        "metrics": "/metrics",
    }


def measure(client: TestClient, path: str, rounds: int) -> tuple[list[float], list[float]]:
    """Return wall and processor time of each round in milliseconds; the first, which reads from disk, included."""
    walls, cpus = [], []
    for _ in range(rounds):
        began_s, cpu_s = time.perf_counter(), time.process_time()
        answer = client.get(path)
        walls.append(1000 * (time.perf_counter() - began_s))
        cpus.append(1000 * (time.process_time() - cpu_s))
        if answer.status_code not in (200, 303):
            raise SystemExit(f"{path}: status {answer.status_code}: {answer.text[:300]}")
    return walls, cpus


def main() -> None:
    """Fill an index, ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="fill this folder, or use it where it is filled")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-page-") as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "node.yaml"
        config.write_text("node: {data_dir: data}\n")
        settings = load_settings(config, {})
        if not (folder / "data" / "index.sqlite").exists():
            fill(folder / "data", arguments.studies, gate_digest=terms_of(settings).digest)
            with closing(sqlite3.connect(folder / "data" / "index.sqlite")) as index, index:
                index.executescript(_DIFFER)
        print(f"{arguments.studies} studies, {platform.python_version()}\n")
        print("| | wall ms | CPU ms | slowest |\n|---|---:|---:|---:|")
        n_slow = 0
        with Store.open(settings.node.data_dir) as store:
            client = build(store, settings)
            for title, path in questions(store, settings).items():
                walls, cpus = measure(client, path, arguments.rounds)
                n_slow += statistics.median(cpus) > GOAL_MS
                medians = f"{statistics.median(walls):.0f} | {statistics.median(cpus):.0f}"
                print(f"| {title} | {medians} | {max(walls):.0f} |", flush=True)
        print(f"\nload {os.getloadavg()[0]:.1f} at the end; {n_slow} above {GOAL_MS:.0f} ms of CPU time")
    sys.exit(n_slow > 0)


if __name__ == "__main__":
    main()

"""Measure the index on PostgreSQL with several processes: two drivers, and two ways to claim a job.

A server of its own with fsync on, on loopback. For each driver in turn, in every round:

- ingest: processes that take small instances in, four threads each, as `receive` does
- claims: processes that claim queued jobs until none is left, alone and while two others take instances in
- questions: the search of a series by its UID

and for claims, next to the node's way (``FOR UPDATE SKIP LOCKED``, without the lock of the one writer) the same under
that lock.

    python -m benchmarks.bench_postgresql --rounds 3

Prints a Markdown table: medians, and the slowest of a hundred claims.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from dicom_node.store import Store
from tests.postgresql_server import start_postgresql
from tests.store.sending import SERIES, T0, closing, instance, keep, received_series

DRIVERS = ("pg8000", "psycopg")
N_PROCESSES, N_THREADS, N_INSTANCES, N_JOBS, N_QUESTIONS = 2, 4, 100, 60, 100


def ingest(number: int, folder: Path, url: str) -> float:
    """Take instances in; return the seconds that it took."""
    series = f"{SERIES}.{number}.{uuid.uuid4().int % 10**9}"
    sent = [instance(each, series=series) for each in range(1, N_INSTANCES + 1)]
    with Store.open(folder, url=url) as store, ThreadPoolExecutor(N_THREADS) as pool:
        began = time.perf_counter()
        list(pool.map(partial(keep, store), sent))
        return time.perf_counter() - began


def ingest_until(number: int, folder: Path, url: str, seconds: float) -> int:
    """Take instances in for some time; return how many."""
    series = f"{SERIES}.{number}.{uuid.uuid4().int % 10**9}"
    end_at = time.monotonic() + seconds

    def send(thread: int) -> int:
        n = 0
        while time.monotonic() < end_at:
            n += 1
            keep(store, instance(thread * 10**6 + n, series=series))
        return n

    with Store.open(folder, url=url) as store, ThreadPoolExecutor(N_THREADS) as pool:
        return sum(pool.map(send, range(N_THREADS)))


def claim(number: int, folder: Path, url: str, *, with_lock: bool) -> list[float]:
    """Claim jobs until there is none; return the seconds of each claim."""
    seconds = []
    with Store.open(folder, url=url) as store:
        if with_lock:
            database = store._database  # noqa: SLF001 - what the store does not offer
            database.claim = database.write  # type: ignore[method-assign]
        while True:
            began = time.perf_counter()
            if store.jobs.claim(f"w{number}", T0, 3600.0, pipeline_digest="d1") is None:
                return seconds
            seconds.append(time.perf_counter() - began)


def ask(_number: int, folder: Path, url: str) -> float:
    """Search one series again and again; return the seconds that it took."""
    with Store.open(folder, url=url) as store:
        began = time.perf_counter()
        for _ in range(N_QUESTIONS):
            list(store.search.search_series({"SeriesInstanceUID": f"{SERIES}.9.0"}))
        return time.perf_counter() - began


def queue_jobs(store: Store) -> None:
    """Make every job claimable again."""
    with store._database.write() as connection:  # noqa: SLF001
        connection.execute(sa.text("UPDATE jobs SET state = 'queued', owner = NULL, lease_expires_at = NULL"))


def measure(folder: Path, url: str, pool: ProcessPoolExecutor) -> dict[str, float]:
    """One round with one driver."""
    numbers, found = range(N_PROCESSES), {}

    def together(work: Callable[..., object]) -> list[object]:
        return list(pool.map(work, numbers, [folder] * N_PROCESSES, [url] * N_PROCESSES))

    slowest = max(map(float, together(ingest)))  # type: ignore[arg-type]
    found["ingest, instances/s"] = N_PROCESSES * N_INSTANCES / slowest
    found["questions/s"] = N_QUESTIONS / max(map(float, together(ask)))  # type: ignore[arg-type]
    with Store.open(folder, url=url) as store:
        for way, with_lock in (("under the lock", True), ("SKIP LOCKED", False)):
            for is_ingesting in (False, True):
                queue_jobs(store)
                rivals = [pool.submit(ingest_until, each, folder, url, 4.0) for each in numbers] if is_ingesting else []
                began = time.perf_counter()
                claims = together(partial(claim, with_lock=with_lock))
                elapsed = time.perf_counter() - began
                each_s = sorted(one for of_process in claims for one in of_process)  # type: ignore[attr-defined]
                assert len(each_s) == N_JOBS, f"{len(each_s)} claims of {N_JOBS} jobs"
                what = f"claims {way}" + (" during ingest" if is_ingesting else "")
                found[f"{what}, ms (median)"] = 1000 * statistics.median(each_s)
                found[f"{what}, ms (99 %)"] = 1000 * each_s[int(0.99 * len(each_s))]
                found[f"{what}, jobs/s"] = N_JOBS / elapsed
                if rivals:
                    found[f"ingest during claims {way}, instances/s"] = sum(one.result() for one in rivals) / 4.0
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds: dict[str, dict[str, list[float]]] = {driver: defaultdict(list) for driver in DRIVERS}
    spawn = multiprocessing.get_context("spawn")
    with (
        start_postgresql(is_durable=True) as server,
        tempfile.TemporaryDirectory() as place,
        ProcessPoolExecutor(2 * N_PROCESSES, mp_context=spawn) as pool,
    ):
        for number in range(options.rounds):
            for driver in DRIVERS:
                folder = Path(place) / f"{driver}{number}"
                url = server.create(f"{driver}{number}").replace("postgresql:", f"postgresql+{driver}:")
                with Store.open(folder, url=url) as store:
                    for job in range(N_JOBS):
                        row = received_series(store, n_instances=1, series=f"{SERIES}.9.{job}")
                        store.closing.complete(row, closing(), T0)
                sys.stderr.write(f"round {number + 1} of {options.rounds}, {driver}\n")
                for name, value in measure(folder, url, pool).items():
                    rounds[driver][name].append(value)
    lines = [f"| | {' | '.join(DRIVERS)} | ratio |", "|---|---|---|---|"]
    for name in rounds[DRIVERS[0]]:
        values = [statistics.median(rounds[driver][name]) for driver in DRIVERS]
        lines.append(f"| {name} | {values[0]:.3g} | {values[1]:.3g} | {values[1] / values[0]:.2f} |")
    sys.stdout.write("\n".join((*lines, "")))
    return 0


if __name__ == "__main__":
    sys.exit(main())

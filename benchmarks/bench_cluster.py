"""Measure ``segment --cluster local:N`` against ``segment``: the cost of a task, and what stays in one process.

A folder of small synthetic CT series and two networks so small that the overhead shows. The first table runs the
command itself. Its own process holds client and scheduler, so the CPU time of that process per volume is what no
number of workers divides; that of the workers is what they divide. On a machine with fewer cores than workers, wall
time shows nothing; CPU time does. The second table runs tasks that do nothing: what client, scheduler and worker cost
per task. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from dicom_node.cluster.address import LocalWorkers
from dicom_node.cluster.connect import open_cluster
from dicom_node.cluster.sameness import as_here
from dicom_node.cluster.security import ClusterCredentials
from tests.factories import ct_series
from tests.tiny_models import write_tiny_model

POLL_S = 0.1
N_SLICES = 12
SPACING_MM = (4.0, 4.0, 4.0)
TASK_BYTES = 30_000  # of a series of 300 files: their paths


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command cost: its own process, and those that it started."""

    wall_s: float
    own_cpu_s: float
    workers_cpu_s: float


def main() -> None:
    """Run all measurements and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        options = _prepare(root, arguments.volumes)
        print(*_commands(root, options, arguments.volumes, arguments.workers), sep="\n")
    print(*_nothing(arguments.tasks, arguments.workers), sep="\n")


def _prepare(root: Path, n_volumes: int) -> Sequence[str]:
    for role, above in (("foreground", -500.0), ("anonymized", 750.0)):
        write_tiny_model(root / role, role, above=above, spacing_mm=SPACING_MM)
    for number in range(n_volumes):
        ct_series(n_slices=N_SLICES, spacing_mm=SPACING_MM, seed=str(number)).write_to(root / "in" / f"{number:05}")
    models = ("--foreground-model", str(root / "foreground"), "--anonymized-model", str(root / "anonymized"))
    return (*models, "--device", "cpu", "--threads", "1")


def _commands(root: Path, options: Sequence[str], n_volumes: int, workers: Sequence[int]) -> Iterator[str]:
    yield f"\n{n_volumes} volumes of {N_SLICES} slices, load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores\n"
    yield "| | wall s | command's own CPU s | workers' CPU s | own CPU, ms per volume beyond one volume's run |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for label, more in [("no cluster", ()), *((f"local:{n}", ("--cluster", f"local:{n}")) for n in workers)]:
        costs = []
        for name, inputs in (("one", root / "in" / "00000"), ("all", root / "in")):
            out = root / f"{label}-{name}".replace(" ", "-")
            command = ("segment", str(inputs), "-o", str(out), *options, *more)
            costs.append(_run([sys.executable, "-m", "dicom_node.cli", *command]))
        one, whole = costs
        per_volume_ms = 1000 * (whole.own_cpu_s - one.own_cpu_s) / (n_volumes - 1)
        yield (
            f"| {label} | {whole.wall_s:.1f} | {whole.own_cpu_s:.1f} | {whole.workers_cpu_s:.1f} "
            f"(one volume: {one.workers_cpu_s:.1f}) | {per_volume_ms:.1f} |"
        )


def _run(command: Sequence[str]) -> Cost:
    started_at = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)
    own, others = 0.0, dict[int, float]()
    while process.poll() is None:
        try:
            own = _cpu_s(watched)
            others |= {child.pid: _cpu_s(child) for child in watched.children(recursive=True)}
        except psutil.NoSuchProcess:
            pass
        time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return Cost(time.perf_counter() - started_at, own, sum(others.values()))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def do_nothing(_task: bytes) -> int:
    """Run on a worker; return its process ID."""
    return os.getpid()


def _nothing(n_tasks: int, workers: Sequence[int]) -> Iterator[str]:
    yield f"\n{n_tasks} tasks of {TASK_BYTES // 1000} kB that do nothing\n"
    yield "| workers | ms per task | client and scheduler, CPU ms per task | fewest and most tasks of a worker |"
    yield "| ---: | ---: | ---: | ---: |"
    task = os.urandom(TASK_BYTES)
    for n_workers in workers:
        wall_s, cpu_s, by_worker = _stream(n_workers, n_tasks, lambda _: task)
        counts = sorted(by_worker.values())
        yield (
            f"| {n_workers} | {1000 * wall_s / n_tasks:.1f} | {1000 * cpu_s / n_tasks:.1f} "
            f"| {counts[0]}, {counts[-1]} |"
        )


def _stream(n_workers: int, n_tasks: int, task_of: Callable[[int], bytes]) -> tuple[float, float, dict[int, int]]:
    found: dict[int, int] = {}
    with open_cluster(LocalWorkers(n_workers), ClusterCredentials(), allow_plain="") as cluster:
        started_at, cpu_before = 0.0, 0.0
        ended = cluster.run(
            do_nothing, n_tasks, task_of, as_here(), on_refused=lambda *_: None, on_workers=lambda _: None
        )
        for _, pid in ended:
            if not started_at:  # from the first result, when all workers have been asked
                started_at, cpu_before = time.perf_counter(), time.process_time()
            if isinstance(pid, BaseException):
                raise pid
            found[pid] = found.get(pid, 0) + 1
        return time.perf_counter() - started_at, time.process_time() - cpu_before, found


if __name__ == "__main__":
    main()

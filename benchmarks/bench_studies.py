"""Measure lists of studies and the survey of retention in an index of 100,000 studies.

One study with a CT series, two results, deliveries and commitments is made as a node makes it, then copied by SQLite:

    python -m benchmarks.bench_studies --studies 100000 --rounds 3

Every round is a process of its own. Prints a Markdown table: wall time and CPU time, medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from dicom_node import app
from dicom_node.gate.decisions import GateState, list_standpoints
from dicom_node.gate.documents import Terms, documents
from dicom_node.pipeline.retention import plan_deletions
from dicom_node.settings import RetentionSettings, Settings, load_settings
from dicom_node.store import Store
from tests.arrivals import NOON
from tests.many_studies import fill


def terms_of(settings: Settings) -> Terms:
    """Return the rules and the pipeline of a node."""
    return Terms(app.read_rules(settings).study, app.current_pipeline_digest(settings))


def measure_calls(folder: Path, settings: Settings) -> dict[str, dict[str, float]]:
    """Time each question once, in this process."""
    terms = terms_of(settings)
    policy = RetentionSettings(sources_days=1.0)
    with Store.open(folder) as store:

        def listed(state: GateState | None = None, limit: int = 1000) -> int:
            return len(list_standpoints(store, terms.digest, terms.rules, state=state, limit=limit))

        def planned() -> int:
            sources = store.retention.survey(["pacs"])
            return len(plan_deletions(sources, policy, now=NOON, free_bytes=0))

        questions: dict[str, Callable[[], int]] = {
            "the latest 1000": listed,
            **{f"the latest 1000 that are {state.value}": lambda state=state: listed(state) for state in GateState},
            "documents of the latest 1000": lambda: len(
                documents(store, terms, list_standpoints(store, terms.digest, terms.rules))
            ),
            "all studies": lambda: listed(limit=10**7),
            "plan of retention, all series": planned,
            "first 500 that want a KOS or no longer have a right to one": lambda: len(store.key_objects.unsettled()),
        }
        return {name: timed(name, ask) for name, ask in questions.items()}


def timed(name: str, ask: Callable[[], int]) -> dict[str, float]:
    """Call once; return what it returned and how long it took."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    n = ask()
    figures = {"n": n, "wall_s": time.perf_counter() - began_s, "cpu_s": time.process_time() - cpu_s}
    print(f"{name}: {figures}", file=sys.stderr)
    return figures


def measure_command(*arguments: str) -> dict[str, float]:
    """Time a whole command, with the start of Python."""
    began_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "dicom_node.cli", "studies", "list", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"n": len(output.splitlines()) - 1, "wall_s": time.perf_counter() - began_s, "cpu_s": cpu_s}


def main() -> None:
    """Fill an index, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls-in", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.calls_in:
        settings = load_settings(arguments.calls_in / "node.yaml", {})
        print(json.dumps(measure_calls(arguments.calls_in / "data", settings)))
        return
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-studies-") as name:
        folder = Path(name)
        config = folder / "node.yaml"
        config.write_text("node: {data_dir: data}\n")
        fill(folder / "data", arguments.studies, gate_digest=terms_of(load_settings(config, {})).digest)
        for _ in range(arguments.rounds):
            again = [sys.executable, "-m", "benchmarks.bench_studies", "--calls-in", name]
            calls = json.loads(subprocess.run(again, check=True, stdout=subprocess.PIPE, text=True).stdout)
            for question, figures in calls.items():
                found[question].append(figures)
            for title, options in (
                ("command `studies list`", []),
                ("command `studies list --state review`", ["--state", "review"]),
                ("command `studies list --limit 1000000 --csv`", ["--limit", "1000000", "--csv"]),
            ):
                found[title].append(measure_command("-c", str(config), *options))
    print(f"{arguments.studies} studies, {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the end\n")
    print("| | rows | wall s | CPU s |\n|---|---:|---:|---:|")
    for question, rounds in found.items():
        wall_s, cpu_s = (statistics.median(one[key] for one in rounds) for key in ("wall_s", "cpu_s"))
        print(f"| {question} | {rounds[0]['n']:.0f} | {wall_s:.2f} | {cpu_s:.2f} |")


if __name__ == "__main__":
    main()

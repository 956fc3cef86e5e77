"""Measure how fast CT slices are de-identified: the node, which verifies each copy, against dicom-anonymizer.

dicom-anonymizer (BSD-3) works at the top level only; here it is called for every nested item too. It runs in a virtual
environment of its own, because it is no dependency:

    python -m venv /tmp/other && /tmp/other/bin/pip install dicom-anonymizer==2.1.0
    python -m benchmarks.bench_deidentify --other /tmp/other/bin/python --rounds 3

The same files for both, read once before the clock starts; rounds are interleaved; every run is its own
process. The clock of the node includes starting its processes, syncing the copies and writing the manifest. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.ct_series import stored_planes, write_series

NODE = """
import json, sys, time
from pathlib import Path
from dicom_node.export.folder import deidentify
from dicom_node.export.inputs import find_sources
from dicom_node.export.profile import read_profile
from dicom_node.export.pseudonyms import Pseudonyms
source, target, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
profile, names = read_profile(None), Pseudonyms("benchmark", bytes(range(32)))
began_at, cpu_at = time.perf_counter(), time.process_time()
sources = find_sources([source], without=target)
manifest = deidentify(sources, target, profile=profile, pseudonyms=names, workers=workers)
wall_s, cpu_s = time.perf_counter() - began_at, time.process_time() - cpu_at
told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(told["VmHWM"].split()[0]) if workers < 2 else 0
print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "n": manifest.content["counts"]["copied"],
                  "peak_mb": peak / 1024}))
"""


def run_once(command: list[str]) -> dict[str, float]:
    """Run one process; return what it says."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", type=Path, help="Python of an environment that has dicom-anonymizer")
    options = parser.parse_args()
    measured: defaultdict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in")
        write_series(source, stored_planes(options.slices))
        n_bytes = sum(len(path.read_bytes()) for path in source.iterdir())
        for number in range(options.rounds):
            for workers in (1, 2):
                target = str(Path(folder, f"node-{number}-{workers}"))
                measured["node (verified)", workers].append(
                    run_once([sys.executable, "-c", NODE, str(source), target, str(workers)])
                )
                if options.other is None:
                    continue
                target = str(Path(folder, f"other-{number}-{workers}"))
                script = str(Path(__file__).with_name("other_anonymizer.py"))
                measured["dicom-anonymizer, every item (not verified)", workers].append(
                    run_once([str(options.other), script, str(source), target, str(workers)])
                )
        for runs in measured.values():
            assert all(run["n"] == options.slices for run in runs), runs
    load = os.getloadavg()[0]
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()},"
    )
    print(f"load {load:.1f} at the end; {options.slices} slices, {n_bytes / 1e6:.0f} MB, {options.rounds} rounds.\n")
    print("| | processes | slices/s (best) | CPU ms a slice (least) | peak MB a process |\n|---|---:|---:|---:|---:|")
    for (name, workers), runs in measured.items():
        speeds = [run["n"] / run["wall_s"] for run in runs]
        cpu_ms = min(1000 * run["cpu_s"] / run["n"] for run in runs)
        cpu = f"{cpu_ms:.1f}" if workers == 1 else ""  # CPU time of other processes is not known
        peak = max(run.get("peak_mb", 0.0) for run in runs)
        shown = f"{peak:.0f}" if peak else ""
        print(f"| {name} | {workers} | {statistics.median(speeds):.0f} ({max(speeds):.0f}) | {cpu} | {shown} |")


if __name__ == "__main__":
    main()

"""Measure how fast a CT series is read as a volume: the node against SimpleITK's series reader and dcm2niix.

All readers read the same files, which are cached in memory before the measurement. Every reading is a process of its
own, and rounds are interleaved so that load on a shared machine affects all readers alike. Prints a Markdown table.

    python -m benchmarks.bench_volume --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from benchmarks.ct_series import stored_planes, write_series

SYNTAXES = {
    "uncompressed": ExplicitVRLittleEndian,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
    "RLE": RLELossless,
}
READERS = ("node", "SimpleITK", "dcm2niix")


@dataclass(frozen=True)
class Reading:
    """Seconds of one process, and of reading alone, without imports, if the reader is a library."""

    wall_s: float
    cpu_s: float
    read_wall_s: float | None = None
    read_cpu_s: float | None = None
    sha256: str | None = None


def read_once(reader: str, folder: Path) -> Reading | None:
    """Run one reader; return None if it cannot read the series."""
    with tempfile.TemporaryDirectory() as out:
        if reader == "dcm2niix":
            command = ["dcm2niix", "-z", "n", "-b", "n", "-o", out, str(folder)]
        else:
            name = {"node": "node", "SimpleITK": "itk"}[reader]
            command = [sys.executable, "-m", "benchmarks.read_volume", name, str(folder)]
        began_at = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s, cpu_s = time.perf_counter() - began_at, usage.ru_utime + usage.ru_stime
        if reader == "dcm2niix":
            return Reading(wall_s, cpu_s) if any(Path(out).glob("*.nii")) else None
    if process.returncode:
        return None
    told = json.loads(output)
    return Reading(wall_s, cpu_s, told["wall_s"], told["cpu_s"], told["sha256"])


def warm(folder: Path) -> int:
    """Read every file once; return the number of bytes."""
    return sum(len(path.read_bytes()) for path in folder.iterdir())


def rows(readings: dict[str, list[Reading | None]]) -> Iterator[str]:
    """Yield one line of the table per reader."""
    for reader, found in readings.items():
        done = [reading for reading in found if reading is not None]
        if not done:
            yield f"| | {reader} | cannot read it | | | |"
            continue
        columns = ("cpu_s", "wall_s", "read_cpu_s", "read_wall_s")
        cells = [_median([getattr(reading, column) for reading in done]) for column in columns]
        yield f"| | {reader} | " + " | ".join(cells) + " |"


def _median(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.2f}" if known else "the same"


def main(arguments: list[str] | None = None) -> int:
    """Write the series, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(SYNTAXES), default=list(SYNTAXES))
    options = parser.parse_args(arguments)
    readers = [reader for reader in READERS if reader != "dcm2niix" or shutil.which("dcm2niix")]
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    print("| series | reader | process CPU s | process wall s | reading CPU s | reading wall s |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        planes = stored_planes(options.slices)
        for name in options.only:
            series = Path(folder) / "series"
            write_series(series, planes, SYNTAXES[name])
            n_bytes = warm(series)
            readings: dict[str, list[Reading | None]] = defaultdict(list)
            for _ in range(options.rounds):
                for reader in readers:
                    readings[reader].append(read_once(reader, series))
            digests = {found.sha256 for each in readings.values() for found in each if found and found.sha256}
            if len(digests) != 1:
                raise RuntimeError(f"{name}: the readers do not agree on the voxels")
            print(f"| {name}, {n_bytes / 1e6:.0f} MB | | | | | |")
            print("\n".join(rows(readings)), flush=True)
            shutil.rmtree(series)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end; node and SimpleITK gave the same voxels")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How fast a series comes in: the node (durable) against storescp, Orthanc and pynetdicom.

The same synthetic CT slices, the same ``storescu``, one and eight associations, every receiver with an empty store each
time, rounds interleaved so that the noise of a shared machine falls on all alike. Prints a Markdown table: medians of
wall times, and medians of the ratios within each round, which a change of the machine's load distorts less.

    python -m benchmarks.bench_ingest --rounds 5
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from benchmarks.receivers import NODELAY, ORTHANC, RECEIVERS, REFERENCE, Target, tool

ROWS = COLUMNS = 512


def write_slices(folder: Path, n_slices: int, n_parts: int) -> list[Path]:
    """One CT series of 0.53 MB slices, dealt out over ``n_parts`` folders."""
    parts = [folder / f"{n_parts}-{number}" for number in range(n_parts)]
    for part in parts:
        part.mkdir(parents=True)
    texture = np.random.default_rng(0).integers(-1000, 2000, (ROWS, COLUMNS), np.int16)
    for index in range(n_slices):
        ds = _slice_header(index)
        ds.PixelData = np.roll(texture, index).tobytes()
        ds.save_as(parts[index % n_parts] / f"{index:05d}.dcm", enforce_file_format=True)
    return parts


def _slice_header(index: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"2.25.1{index:06d}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "2.25.11", "2.25.12", "2.25.13"
    ds.Modality, ds.PatientName, ds.PatientID = "CT", "BENCH^INGEST", "BENCH"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20260101", "120000", "1"
    ds.InstanceNumber = index + 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-250, -250, index], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.98, 0.98], 1
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    return ds


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and its children, ended ones too."""
    children = _read(f"/proc/{pid}/task/{pid}/children").split()
    ticks = sum(_ticks(process) for process in (str(pid), *children))
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: str) -> int:
    """Clock ticks of a process, 0 if it has ended: then its parent has them (cutime, cstime)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime


def _read(path: str) -> str:
    """A file of /proc, empty if its process ends meanwhile."""
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def send_s(target: Target, parts: list[Path]) -> float:
    """Seconds until one ``storescu`` for each folder is through; fails unless every slice was accepted."""
    command = [tool("storescu"), "-aec", target.ae_title, "-pdu", "131072", "+sd", "127.0.0.1", str(target.port)]
    environment = {**os.environ, **NODELAY}
    began = time.perf_counter()
    senders = [
        subprocess.Popen([*command, str(part)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for part in parts
    ]
    errors = [sender.communicate()[1] for sender in senders]
    elapsed = time.perf_counter() - began
    for sender, error in zip(senders, errors, strict=True):
        if sender.returncode or b"Failed" in error or b"Refused" in error:
            raise RuntimeError(f"storescu to {target.ae_title}: {error.decode(errors='replace')}")
    return elapsed


@dataclass(frozen=True)
class Sample:
    """One series through one receiver."""

    wall_s: float
    cpu_s: float  # of the receiver


def table(samples: Mapping[tuple[str, int], Sequence[Sample]], associations: Sequence[int], n_slices: int) -> str:
    """One row for each receiver; speeds are ratios of wall times within a round, and their median."""
    head = ["receiver"]
    for n in associations:
        head += [f"{n} assoc.: s (min)", "slices/s", "speed / storescp", "speed / Orthanc", "receiver CPU s"]
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * (len(head) - 1))]
    for name in dict.fromkeys(name for name, _ in samples):
        cells = [name]
        for n in associations:
            walls = [sample.wall_s for sample in samples[name, n]]
            cells += [
                f"{statistics.median(walls):.2f} ({min(walls):.2f})",
                f"{n_slices / statistics.median(walls):.0f}",
                *(_ratio(samples.get((other, n), ()), samples[name, n]) for other in (REFERENCE, ORTHANC)),
                f"{statistics.median(sample.cpu_s for sample in samples[name, n]):.2f}",
            ]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def _ratio(others: Sequence[Sample], samples: Sequence[Sample]) -> str:
    """How many times as fast as another receiver: median of the rounds, with the smallest and the largest."""
    ratios = [other.wall_s / sample.wall_s for other, sample in zip(others, samples, strict=False)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--only", nargs="+", default=[], help="receivers whose name begins so")
    arguments = parser.parse_args()
    chosen = {
        name: receiver
        for name, receiver in RECEIVERS.items()
        if not arguments.only or name.startswith(tuple(arguments.only))
    }
    samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    reports: dict[int, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as scratch:
        parts = {n: write_slices(Path(scratch, "series"), arguments.slices, n) for n in arguments.associations}
        for round_number in range(arguments.rounds):
            for n in arguments.associations:
                for number, (name, receiver) in enumerate(chosen.items()):
                    folder = Path(scratch, f"{round_number}-{n}-{number}")
                    folder.mkdir()
                    with receiver(folder) as target:
                        before_s = cpu_s(target.pid)
                        wall_s = send_s(target, parts[n])
                        samples[name, n].append(Sample(wall_s, cpu_s(target.pid) - before_s))
                    reports[n] = target.report or reports.get(n, {})
                    subprocess.run(["rm", "-rf", str(folder)], check=True)
                    os.sync()  # what one receiver left unwritten must not slow the syncs of the next
                    print(f"round {round_number + 1}: {name}, {n}: {wall_s:.2f} s", file=sys.stderr)
    load = os.getloadavg()[0]
    print(
        f"\n{arguments.slices} slices of 0.53 MB, median of {arguments.rounds}, {datetime.now(UTC):%Y-%m-%d}; ", end=""
    )
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load at the end {load:.1f}\n")
    print(table(samples, arguments.associations, arguments.slices))
    for n, report in reports.items():
        if report:
            counted = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in report.items())
            print(f"\nnode, {n} association{'s' if n > 1 else ''}: {counted}")


if __name__ == "__main__":
    main()

"""How fast what was received comes out again by DICOMweb: the node against Orthanc with its DICOMweb plugin.

The same instances in both, the same client, one connection, requests of both interleaved so that the noise of a shared
machine falls on both alike. Prints a Markdown table of median times and of the ratios of medians.

    python -m benchmarks.bench_retrieve --studies 5000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless

from benchmarks.archives import Answer, Archive, Client, node_archive, orthanc_archive
from benchmarks.bench_ingest import cpu_s
from benchmarks.ct_series import COLUMNS, ROWS, write_series

PLAIN, COMPRESSED = "2.25.8", "2.25.9"  # roots of the UIDs of the two series with pixels
INSTANCES_PER_STUDY: Final = 4
JSON: Final = {"Accept": "application/dicom+json"}
STORED: Final = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
EXPLICIT: Final = {"Accept": f'multipart/related; type="application/dicom"; transfer-syntax={ExplicitVRLittleEndian}'}
FRAME_STORED: Final = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
FRAME_DECODED: Final = {"Accept": 'multipart/related; type="application/octet-stream"'}


@dataclass(frozen=True)
class Case:
    """One kind of request, with the paths to ask for in turn, and what shows that an answer is complete."""

    name: str
    paths: Sequence[str]
    headers: Mapping[str, str]
    n_expected: int  # objects of a JSON answer, bytes at least of any other one

    def check(self, answer: Answer) -> None:
        """Fail if something is missing."""
        is_json = self.headers is JSON
        n_found = len(json.loads(answer.body or b"[]")) if is_json else len(answer.body)
        if n_found < self.n_expected:
            raise RuntimeError(f"{self.name}: {n_found}, expected {self.n_expected}")


def cases(n_instances: int, n_compressed: int, n_studies: int, n_requests: int) -> Iterator[Case]:
    """Everything that is measured, in this order."""
    series = f"/studies/{PLAIN}1/series/{PLAIN}2"
    compressed = f"/studies/{COMPRESSED}1/series/{COMPRESSED}2"
    n_bytes = 2 * ROWS * COLUMNS
    numbers = [(7919 * index) % n_studies for index in range(n_requests)]
    yield Case(f"metadata of {n_instances} instances, first request", [f"{series}/metadata"], JSON, n_instances)
    yield Case(f"metadata of {n_instances} instances, later", [f"{series}/metadata"] * 10, JSON, n_instances)
    yield Case("search: one patient", [f"/studies?PatientID=P{number:07d}" for number in numbers], JSON, 1)
    days = [_day(number) for number in numbers]
    yield Case("search: studies of a day, at most 50", [f"/studies?StudyDate={day}&limit=50" for day in days], JSON, 1)
    names = [f"/studies?PatientName=BENCH%5E{number:04d}*&limit=50" for number in numbers]
    yield Case("search: studies by beginning of a name", names, JSON, 0)
    yield Case("search: series of a study", [f"/studies/2.25.6.{number}/series" for number in numbers], JSON, 1)
    yield Case(f"search: {n_instances} instances of a series", [f"{series}/instances"] * 10, JSON, n_instances)
    yield Case(f"series of {n_instances} as stored", [series] * 3, STORED, n_instances * n_bytes)
    frames = [f"{series}/instances/{PLAIN}000{number}/frames/1" for number in range(1, n_instances + 1)]
    yield Case("one frame as stored", frames, FRAME_STORED, n_bytes)
    frames = [f"{compressed}/instances/{COMPRESSED}000{number}/frames/1" for number in range(1, n_compressed + 1)]
    yield Case("one frame, JPEG-LS decoded", frames, FRAME_DECODED, n_bytes)
    yield Case(f"series of {n_compressed}, JPEG-LS decoded", [compressed] * 2, EXPLICIT, n_compressed * n_bytes)


def write_small_studies(folder: Path, n_studies: int) -> list[Path]:
    """Studies of `INSTANCES_PER_STUDY` instances without pixels, one series each, spread over ten years."""
    folder.mkdir()
    paths = []
    for number in range(n_studies):
        for index in range(INSTANCES_PER_STUDY):
            path = folder / f"{number}-{index}.dcm"
            _small(number, index).save_as(path, enforce_file_format=True)
            paths.append(path)
    return paths


def _day(number: int) -> str:
    return f"{datetime(2016, 1, 1, tzinfo=UTC) + timedelta(days=number % 3650):%Y%m%d}"


def _small(number: int, index: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"2.25.6.{number}.1.{index}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"2.25.6.{number}", f"2.25.6.{number}.1"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = _day(number), "120000", f"A{number}", "1"
    ds.PatientName, ds.PatientID = f"BENCH^{number:07d}", f"P{number:07d}"
    ds.PatientBirthDate, ds.PatientSex, ds.ReferringPhysicianName = "19700101", "O", "DOE^J"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.StudyDescription = "CT", 1, index + 1, "Small"
    return ds


def measure(archives: Sequence[Archive], chosen: Sequence[Case]) -> dict[tuple[str, str], tuple[list[float], float]]:
    """Wall seconds of every request and processor seconds of one, by case and archive."""
    clients = {archive.name: Client(archive.port) for archive in archives}
    found: dict[tuple[str, str], tuple[list[float], float]] = {}
    for case in chosen:
        walls: dict[str, list[float]] = {archive.name: [] for archive in archives}
        cpus = dict.fromkeys(walls, 0.0)
        for path in case.paths:
            for archive in archives:
                before = cpu_s(archive.pid)
                answer = clients[archive.name].get(path, case.headers)
                cpus[archive.name] += cpu_s(archive.pid) - before
                case.check(answer)
                walls[archive.name].append(answer.wall_s)
        for name, wall_s in walls.items():
            found[case.name, name] = wall_s, cpus[name] / len(case.paths)
            print(f"{case.name}: {name} {1000 * statistics.median(wall_s):.1f} ms", file=sys.stderr)
    return found


def table(found: Mapping[tuple[str, str], tuple[Sequence[float], float]], chosen: Sequence[Case]) -> str:
    """One row for each case."""
    lines = [
        "| what | requests | node ms (p99) | Orthanc ms (p99) | node is faster by | node CPU ms | Orthanc CPU ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in chosen:
        (node, node_cpu), (orthanc, orthanc_cpu) = found[case.name, "node"], found[case.name, "Orthanc"]
        ratio = statistics.median(orthanc) / statistics.median(node)
        lines.append(
            f"| {case.name} | {len(node)} | {_times(node)} | {_times(orthanc)} | {ratio:.1f} "
            f"| {1000 * node_cpu:.1f} | {1000 * orthanc_cpu:.1f} |"
        )
    return "\n".join(lines)


def _times(wall_s: Sequence[float]) -> str:
    median = f"{1000 * statistics.median(wall_s):.1f}"
    return f"{median} ({1000 * sorted(wall_s)[int(0.99 * (len(wall_s) - 1))]:.1f})" if len(wall_s) >= 50 else median


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300, help="of the uncompressed series")
    parser.add_argument("--compressed", type=int, default=50, help="slices of the JPEG-LS series")
    parser.add_argument("--studies", type=int, default=5000, help="small ones, for searches; four instances each")
    parser.add_argument("--requests", type=int, default=200, help="of each search")
    arguments = parser.parse_args()
    chosen = list(cases(arguments.slices, arguments.compressed, arguments.studies, arguments.requests))
    makers: Sequence[Callable[..., object]] = (node_archive, orthanc_archive)
    with tempfile.TemporaryDirectory(prefix="bench-retrieve-") as scratch, ExitStack() as stack:
        texture = np.random.default_rng(0).integers(0, 4096, (ROWS, COLUMNS), np.uint16)
        planes = np.stack([np.roll(texture, index) for index in range(arguments.slices)])
        write_series(Path(scratch, "plain"), planes, root=PLAIN)
        write_series(Path(scratch, "compressed"), planes[: arguments.compressed], JPEGLSLossless, root=COMPRESSED)
        paths = [*sorted(Path(scratch, "plain").iterdir()), *sorted(Path(scratch, "compressed").iterdir())]
        paths += write_small_studies(Path(scratch, "small"), arguments.studies)
        archives = []
        for make in makers:
            began = time.perf_counter()
            archives.append(stack.enter_context(make(Path(scratch), paths)))  # type: ignore[arg-type]
            print(f"loaded {len(paths)} in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        found = measure(archives, chosen)
    print(f"\n{len(paths)} instances, {datetime.now(UTC):%Y-%m-%d}; ", end="")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load at the end {os.getloadavg()[0]:.1f}\n")
    print(table(found, chosen))


if __name__ == "__main__":
    main()

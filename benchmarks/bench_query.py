"""How fast studies are found among a million instances: the node against Orthanc, which has a tenth of them.

The node's index is filled by the code that files arrivals, without bytes (`tests.many_instances`); Orthanc is sent the
same instances. Queries are chosen so that both find as many studies: where the node looks for one day, Orthanc looks
for ten. Blocks of requests to both alternate. Prints a Markdown table.

    python -m benchmarks.bench_query --series 50000
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
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection, HTTPException
from io import BytesIO
from pathlib import Path
from typing import Final

from benchmarks.archives import ORTHANC_DICOMWEB, running_archive
from benchmarks.bench_ingest import cpu_s
from benchmarks.query_clients import Asker, FindAsker, Keys, QidoAsker
from benchmarks.receivers import NODELAY, free_port, tool
from tests.many_instances import (
    INSTANCES_PER_SERIES,
    SERIES_PER_STUDY,
    accession_number,
    dataset,
    family_name,
    fill,
    study_day,
)

CALLING: Final = "BENCH"
MAX_CLIENTS: Final = 32
N_LOADING: Final = 4


@dataclass(frozen=True)
class Archive:
    """A running archive, and how many studies it holds of every ten that the node holds."""

    name: str
    ae_title: str
    http_port: int
    dimse_port: int
    pids: Mapping[str, int]  # of the process that answers, by protocol
    n_studies: int
    is_tenth: bool


@dataclass(frozen=True)
class Case:
    """One kind of query; ``keys`` makes the one of a number, for an archive that is a tenth or not."""

    name: str
    protocol: str
    keys: Callable[[int, bool], Keys]


@dataclass
class Measured:
    """What was measured of a case with a number of clients, in one archive."""

    walls_s: list[float] = field(default_factory=list)
    n_matches: int = 0
    block_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Return queries answered in a second."""
        return len(self.walls_s) / self.block_s


def _name(number: int, is_tenth: bool) -> Keys:
    """Ten names begin with the same two syllables."""
    name = family_name(number)
    return {"PatientName": (name[:4] if is_tenth else name) + "*"}


def _days(number: int, is_tenth: bool) -> Keys:
    day = study_day(number)
    last = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=9 if is_tenth else 0)
    return {"StudyDate": f"{day}-{last:%Y%m%d}"}


def _modality_and_days(number: int, is_tenth: bool) -> Keys:
    return {"ModalitiesInStudy": "MR", **_days(number, is_tenth)}


def _modality(number: int, is_tenth: bool) -> Keys:  # noqa: ARG001
    return {"ModalitiesInStudy": ("CT", "MR")[number % 2], "limit": "25"}


def _rare_modality(number: int, is_tenth: bool) -> Keys:  # noqa: ARG001
    return {"ModalitiesInStudy": "PT"}


def _accession(number: int, is_tenth: bool) -> Keys:  # noqa: ARG001
    return {"AccessionNumber": accession_number(number)}


def cases() -> list[Case]:
    """Return everything that is measured, in this order."""
    both: Mapping[str, Callable[[int, bool], Keys]] = {
        "beginning of a name": _name,
        "date range": _days,
        "modality and date range": _modality_and_days,
        "rare modality": _rare_modality,
        "accession number": _accession,
    }
    found = [Case(name, "QIDO-RS", keys) for name, keys in both.items()]
    found.insert(3, Case("modality, 25 studies at most", "QIDO-RS", _modality))
    return found + [Case(name, "C-FIND", keys) for name, keys in both.items()]


def measure(case: Case, archive: Archive, n_clients: int, block_s: float, begin: int, into: Measured) -> None:
    """Ask with some clients for ``block_s``, each query once at least by every client; add what was found."""
    askers = [_asker(case, archive) for _ in range(n_clients)]
    walls: list[list[float]] = [[] for _ in askers]
    n_matches = [0] * n_clients
    failures: list[BaseException] = []
    started = threading.Barrier(n_clients + 1)

    def ask_on(client: int) -> None:
        try:
            started.wait()
            number = begin + client
            while not walls[client] or time.perf_counter() < end_at[0]:
                wall_s, n_found = askers[client].ask(case.keys((number * 7919) % archive.n_studies, archive.is_tenth))
                walls[client].append(wall_s)
                n_matches[client] += n_found
                number += n_clients
        except BaseException as error:  # noqa: BLE001 - raised below, in the main thread
            failures.append(error)

    end_at = [0.0]
    threads = [threading.Thread(target=ask_on, args=(client,)) for client in range(n_clients)]
    for thread in threads:
        thread.start()
    before, began = cpu_s(archive.pids[case.protocol]), time.perf_counter()
    end_at[0] = began + block_s
    started.wait()
    for thread in threads:
        thread.join()
    into.block_s += time.perf_counter() - began
    into.cpu_s += cpu_s(archive.pids[case.protocol]) - before
    for asker in askers:
        asker.close()
    if failures:
        raise failures[0]
    into.walls_s += [wall_s for of_client in walls for wall_s in of_client]
    into.n_matches += sum(n_matches)


def _asker(case: Case, archive: Archive) -> Asker:
    if case.protocol == "QIDO-RS":
        return QidoAsker(archive.http_port)
    return FindAsker(archive.dimse_port, called=archive.ae_title, calling=CALLING)


@contextmanager
def node_archive(folder: Path, n_series: int) -> Iterator[Archive]:
    """The node's web server and receiver over an index of ``n_series`` series."""
    data_dir, http_port, dimse_port = folder / "node", free_port(), free_port()
    if not (data_dir / "index.sqlite").exists():
        data_dir.mkdir()
        fill(data_dir, n_series)
    settings = folder / "node.yaml"
    settings.write_text(
        f"node: {{data_dir: {data_dir}, ae_title: NODE}}\n"
        f"web: {{host: 127.0.0.1, port: {http_port}}}\n"
        f"dimse: {{host: 127.0.0.1, port: {dimse_port}, max_associations: {2 * MAX_CLIENTS}}}\n"
        "query_retrieve: {known_peers_only: false}\nlog: {level: error}\n"
    )
    command = [sys.executable, "-m", "dicom_node.cli"]
    with ExitStack() as stack:
        web = stack.enter_context(running_archive([*command, "web", "-c", str(settings)], http_port, {}))
        receive = stack.enter_context(_receiver([*command, "receive", "-c", str(settings)], "NODE", dimse_port))
        n_studies = n_series // SERIES_PER_STUDY
        yield Archive("node", "NODE", http_port, dimse_port, {"QIDO-RS": web, "C-FIND": receive}, n_studies, False)


@contextmanager
def _receiver(command: Sequence[str], ae_title: str, port: int) -> Iterator[int]:
    """A process that accepts associations."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            _wait_for(partial(FindAsker, port, called=ae_title, calling=CALLING), process)
            yield process.pid
        finally:
            process.terminate()


def _wait_for(connect: Callable[[], FindAsker], process: subprocess.Popen[bytes]) -> None:
    end_at = time.monotonic() + 60
    while True:
        try:
            connect().close()
        except OSError as error:
            if time.monotonic() > end_at or process.poll() is not None:
                raise RuntimeError("the receiver did not start") from error
            time.sleep(0.1)
        else:
            return


@contextmanager
def orthanc_archive(folder: Path, n_series: int) -> Iterator[Archive]:
    """Orthanc with a tenth of the series, loaded without syncs."""
    http_port, dimse_port = free_port(), free_port()
    storage = folder / "orthanc"
    configuration = {
        "StorageDirectory": str(storage), "IndexDirectory": str(storage), "DicomAet": "ORTHANC",
        "HttpPort": http_port, "DicomPort": dimse_port, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "SyncStorageArea": False, "TcpNoDelay": True, "KeepAlive": True, "HttpCompressionEnabled": False,
        "DicomAlwaysAllowFind": True, "DicomCheckCalledAet": False, "DicomThreadsCount": MAX_CLIENTS,
        "Plugins": [str(ORTHANC_DICOMWEB)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    n_studies = n_series // SERIES_PER_STUDY // 10
    is_loaded = storage.exists()
    with running_archive([tool("Orthanc"), str(path)], http_port, NODELAY) as pid:
        if not is_loaded:
            numbers = range(n_studies)
            loaders = [
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.bench_query", "--load", f"{http_port},{n_studies},{number}"]
                )
                for number in numbers[:N_LOADING]
            ]
            ended = [loader.wait() for loader in loaders]
            if any(ended):
                raise RuntimeError("Orthanc was not loaded")
        yield Archive("Orthanc", "ORTHANC", http_port, dimse_port, {"QIDO-RS": pid, "C-FIND": pid}, n_studies, True)


def load(port: int, n_studies: int, first: int) -> None:
    """Send Orthanc every `N_LOADING`-th study."""
    client = HTTPConnection("127.0.0.1", port, timeout=600)
    for study in range(first, n_studies, N_LOADING):
        for series in range(SERIES_PER_STUDY):
            for instance in range(INSTANCES_PER_SERIES):
                buffer = BytesIO()
                dataset(study, series, instance).save_as(buffer, enforce_file_format=True)
                _post(client, buffer.getvalue())


def _post(client: HTTPConnection, content: bytes) -> None:
    """Send an instance; again on a new connection where Orthanc has closed one that was idle for a second."""
    for is_last in (False, True):
        try:
            client.request("POST", "/instances", content)
            answer = client.getresponse()
            answer.read()
        except (OSError, HTTPException):
            client.close()
            if is_last:
                raise
        else:
            if answer.status != 200:
                raise RuntimeError(f"Orthanc answered {answer.status}")
            return


def table(found: Mapping[tuple[str, str, int], Mapping[str, Measured]]) -> Iterator[str]:
    """Yield a line for each case and number of clients."""
    columns = (
        "clients", "studies found", "node ms (p99)", "Orthanc ms (p99)", "node/s", "Orthanc/s", "node is faster by",
        "node CPU ms", "Orthanc CPU ms",
    )  # fmt: skip
    yield "| query | " + " | ".join(columns) + " |"
    yield "| --- |" + " ---: |" * len(columns)
    for (protocol, name, n_clients), by_archive in found.items():
        node, orthanc = by_archive["node"], by_archive["Orthanc"]
        matches = "/".join(f"{one.n_matches / len(one.walls_s):.0f}" for one in (node, orthanc))
        cpu_ms = [f"{1000 * one.cpu_s / len(one.walls_s):.1f}" for one in (node, orthanc)]
        yield (
            f"| {protocol}: {name} | {n_clients} | {matches} | {_times(node)} | {_times(orthanc)} | {node.per_s:.0f} "
            f"| {orthanc.per_s:.0f} | {node.per_s / orthanc.per_s:.1f} | {' | '.join(cpu_ms)} |"
        )


def _times(one: Measured) -> str:
    ordered = sorted(one.walls_s)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    return f"{1000 * statistics.median(ordered):.1f} ({1000 * p99:.1f})"


def main() -> None:
    """Fill both archives, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=50_000, help="of 20 instances, in the node")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a block of queries")
    parser.add_argument("--rounds", type=int, default=2, help="blocks of each kind")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, MAX_CLIENTS])
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of queries or protocols")
    parser.add_argument("--keep", type=Path, help="folder in which the archives are, or are made and left")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(*map(int, arguments.load.split(",")))
        return
    found: dict[tuple[str, str, int], dict[str, Measured]] = {}
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-query-")))
        folder.mkdir(exist_ok=True)
        archives = []
        for make in (node_archive, orthanc_archive):
            began = time.perf_counter()
            archives.append(stack.enter_context(make(folder, arguments.series)))
            print(f"{archives[-1].name}: ready after {time.perf_counter() - began:.0f} s", file=sys.stderr)
        for case in cases():
            if not any(part in f"{case.protocol}: {case.name}" for part in arguments.only):
                continue
            for n_clients in arguments.clients:
                measured = found[case.protocol, case.name, n_clients] = {one.name: Measured() for one in archives}
                for number, archive in enumerate(archives * arguments.rounds):
                    begin = number // len(archives) * 100_000  # both are asked the same
                    measure(case, archive, n_clients, arguments.seconds, begin, measured[archive.name])
                times = ", ".join(f"{name} {_times(one)}" for name, one in measured.items())
                print(f"{case.protocol}, {case.name}, {n_clients}: {times}", file=sys.stderr)
    print(f"\n{arguments.series} series, {datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores, ", end="")
    print(f"Python {platform.python_version()}, load at the end {os.getloadavg()[0]:.1f}\n")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
